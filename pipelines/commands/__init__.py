"""One file per verb of `esci` that works offline; each is thin."""
