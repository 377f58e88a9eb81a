"""The generated demo catalogue: proves plumbing, never quality."""
