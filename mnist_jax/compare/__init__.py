"""Compares Neptune and Comet on the thesis's nine criteria: probes of their clients, the evidence, and a fold of it."""
