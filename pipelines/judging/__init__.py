"""Judging a predictions file: read what is judged, show the verdict."""
