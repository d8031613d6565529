"""The environment and the source of a run, and how those of two runs differ."""
