"""Neptune 1.x offline folders, read without its client."""
