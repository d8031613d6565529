"""What attacks the product: each file a family of attacks, each attack a promise and a function that tries to break it."""
