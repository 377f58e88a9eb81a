"""Training a set of members into a run folder, so that a kill costs minutes and not the run."""
