"""Queries and products as a graph: its edges, what is sampled of them, and what is made of that."""
