"""What shapes an embedding: which pairs attract and repel, by what loss, and how evenly."""
