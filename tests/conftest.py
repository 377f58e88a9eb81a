"""Settings for every test."""

from hypothesis import settings

# Two workers on two busy cores: how long one example takes says nothing about the code.
settings.register_profile("esci", deadline=None, print_blob=True)
settings.load_profile("esci")
