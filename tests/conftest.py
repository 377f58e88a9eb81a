"""Settings for every test."""

import os

from hypothesis import settings

# Before anything numerical is loaded: the workers of pytest share the cores already, and threads
# that wait for each other on busy cores take several times as long as one alone. Processes that
# tests start inherit it.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ESCI_LANGUAGE_THREADS"):
    os.environ.setdefault(_name, "1")

# Two workers on two busy cores: how long one example takes says nothing about the code.
settings.register_profile("esci", deadline=None, print_blob=True)
settings.load_profile("esci")
