"""What lies on disk: the journal of a run, the files beside it, and the readers and the one writer of both."""
