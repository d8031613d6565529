"""Servers on 127.0.0.1 for the real Neptune and Comet clients."""
