"""Versions of what may change the result of a training, as members record them too."""

from models.versions import library_versions

__all__ = ["library_versions"]
