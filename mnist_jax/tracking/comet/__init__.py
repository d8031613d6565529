"""Comet 3.x as a tracker."""
