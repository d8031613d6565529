"""Servers on loopback that speak to the real Neptune and Comet clients."""
