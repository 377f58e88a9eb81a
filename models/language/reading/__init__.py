"""Text to token ids, the same for training and serving; numpy and tokenizers are all it needs."""
