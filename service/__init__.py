"""The online end: reads a release and answers over REST. Imports neither torch nor pandas."""

from service.server import check_port, running, serve
from service.serving import find_release
from service.settings import Settings

__all__ = ["Settings", "check_port", "find_release", "running", "serve"]
