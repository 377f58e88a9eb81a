"""Dataset folders in the official ESCI layout: read, write, validate, import, look at."""
