"""Data sets as numpy arrays, from wherever they lie, with their digests."""
