"""Programs that measure: each prints a table with the command that made it. Run them as modules, `python -m benchmarks.NAME`."""
