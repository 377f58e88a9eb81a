"""Where pretrained models come from, and what of them is read: no pickle, and no code of theirs."""
