"""What nodes start from: a vector of each text, by words alone or by a language model."""
