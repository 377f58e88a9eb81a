"""One member per file: each turns pairs into logits."""
