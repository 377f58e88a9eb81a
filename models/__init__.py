"""The library: words, members, ensemble, judge, stores. Knows no HTTP and no command line."""
