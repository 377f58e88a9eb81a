"""One file per verb of `esci data`."""
