"""The offline end: reads data folders, trains members, writes releases."""
