"""CSV, TSV and JSON Lines into a dataset folder: mapping of names, reading, converting."""
