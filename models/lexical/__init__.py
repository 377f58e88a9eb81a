"""The room of the lexical member: tokens, product features, pair features."""
