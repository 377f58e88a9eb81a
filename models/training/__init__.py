"""Training of networks: one loop for whatever has a loss, resumable, and what it is asked."""
