"""Data sets as numpy arrays, with their digests."""
