"""From a text to words, numbers and scopes, in three languages."""
