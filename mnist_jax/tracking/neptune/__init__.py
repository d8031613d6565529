"""Neptune 1.x as a tracker."""
