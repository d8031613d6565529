"""Programs that measure: each prints a table. Run one as a module from the repository, `python -m benchmarks.NAME`."""
