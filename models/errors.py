"""Every error we raise on purpose.

A message says what was found, what was expected and what to do next.
"""


class EsciError(Exception):
    """Root of the tree: whatever derives from it is shown to the user without a traceback."""


class ConfigError(EsciError):
    """A configuration or a flag that cannot be meant: an unknown key, a value out of range."""


class DataError(EsciError):
    """Data that cannot be read as what it claims to be."""


class MissingDataError(DataError):
    """A file or folder that is needed and is not there."""


class MemberError(EsciError):
    """A member that cannot be made, fitted, saved or loaded."""


class UnknownMemberKindError(MemberError):
    """A member kind that is not in the registry, or whose extra is not installed."""


class NotFittedError(MemberError):
    """A member asked for what only training gives."""


class ExportError(MemberError):
    """A network whose served form does not answer as the trained one does."""


class ReleaseError(EsciError):
    """A release folder that is absent, tampered with, foreign or of another format."""


class StoreError(EsciError):
    """A store that cannot be reached, or that somebody else is writing."""


class RequestError(EsciError):
    """A request that the service cannot answer as it stands."""


class OverloadedError(EsciError):
    """The service has all the work it accepts; the client may come again."""


class NetworkError(EsciError):
    """A download that did not arrive, or arrived as something else."""


def how_to_install(extra: str) -> str:
    """The command that brings an extra; we are in no registry, so it names the project's folder."""
    return f"pip install --constraint constraints.txt '.[{extra}]' (in the project's folder)"


def missing_module(error: ModuleNotFoundError, extra: str) -> EsciError:
    """The error that says which extra brings the module that is not installed."""
    return EsciError(
        f"the module {error.name!r} is needed and not installed; install it with: "
        f"{how_to_install(extra)}"
    )
