"""Which neighbours are heard, and as what."""
