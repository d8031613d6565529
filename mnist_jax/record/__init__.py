"""Runs on disk: the journal of events, the files beside it, their readers and their one writer."""
