"""An exported graph rewritten: the same answers in fewer and faster operations."""
