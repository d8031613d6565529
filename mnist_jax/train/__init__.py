"""Training: pure compiled functions, the loop around them, and the runs that they make. jax, flax and optax are used here."""
