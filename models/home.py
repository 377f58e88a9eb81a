"""The folder where everything lies that we make unasked: demo data, releases, caches."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

HOME_VARIABLE: Final = "ESCI_HOME"


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """What ESCI_HOME says, or `.esci` in the current folder."""
    return Path(environment.get(HOME_VARIABLE) or ".esci")
