"""What a person wants to know of a dataset: counted in one streamed pass, shown and drawn."""
