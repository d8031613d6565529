"""Other programs' files as a record: Neptune 1.x offline folders and Comet 3.x offline archives, whoever wrote them."""
