"""`python -m service`: what `esci serve` does, where the command line is not wanted."""

import sys
from typing import Final

import typer

from models.errors import EsciError
from service.command import serve

# As `esci` exits, too.
_ERRORS: Final = 2


def main() -> None:
    """Serve; an error we raise on purpose is one line and an exit code."""
    try:
        typer.run(serve)
    except EsciError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(_ERRORS)


if __name__ == "__main__":
    main()
