"""Where a run came from: the environment and the source that it ran with, and how two of them differ."""
