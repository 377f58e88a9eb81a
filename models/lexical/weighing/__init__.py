"""From what a pair has in common to four logits."""
