"""What a step of training does, how many there are, and what a kill leaves of them."""
