"""From prepared queries and products to what a pair has in common."""
