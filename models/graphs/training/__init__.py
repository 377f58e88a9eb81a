"""Networks over graphs, and what they learn from; needs torch."""
