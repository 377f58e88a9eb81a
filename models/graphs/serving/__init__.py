"""What answers from a graph without torch, and says why."""
