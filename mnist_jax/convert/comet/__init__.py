"""Comet 3.x offline archives, read without its client."""
