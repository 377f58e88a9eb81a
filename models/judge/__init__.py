"""The judge: every number we report about predictions, with its interval."""
