"""Adapting a backbone to a catalogue's language by text that nobody labelled."""
