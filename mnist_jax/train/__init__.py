"""Training: pure compiled functions, the loop around them, and the recorded runs. Only this room uses jax, flax and optax."""
