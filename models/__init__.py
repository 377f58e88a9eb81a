"""The library: words, members, ensemble, judge. Knows no HTTP, no Redis, no command line."""
