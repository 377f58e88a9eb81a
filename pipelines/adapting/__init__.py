"""Domain adaptation: a backbone pre-trained on the texts of a catalogue, without a label."""
