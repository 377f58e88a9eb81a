"""Member kinds by name, as one table of import paths: a kind is loaded when it is asked for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from pydantic import ValidationError

from models.errors import ConfigError, UnknownMemberKindError, how_to_install
from models.member import Member
from models.needs import Needs, Needy, require_modules
from models.typed import complaints, known_keys, parse

KINDS: Final[dict[str, str]] = {
    "lexical": "models.members.lexical:LexicalMember",
    "bi_encoder": "models.members.bi_encoder:BiEncoderMember",
    "cross_encoder": "models.members.cross_encoder:CrossEncoderMember",
    "gnn": "models.members.gnn:GnnMember",
}
# The extra that brings all a kind needs, to be fitted too, where the serving one does not.
EXTRAS: Final[dict[str, str]] = {
    "lexical": "training",
    "bi_encoder": "training",
    "cross_encoder": "training",
    "gnn": "training",
}
_LANGUAGE_MODULES: Final = (
    "torch",
    "transformers",
    "accelerate",
    "safetensors",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "matplotlib",
)
# Whose fits are called in every process of a launch, and share their work. The first process fits
# the others by itself.
SHARED: Final = frozenset({"bi_encoder", "cross_encoder", "gnn"})
# What every fit of a kind imports, most of it late; what one option needs, the options say.
MODULES: Final[dict[str, tuple[str, ...]]] = {
    "lexical": ("scipy",),
    "bi_encoder": _LANGUAGE_MODULES,
    "cross_encoder": _LANGUAGE_MODULES,
    "gnn": (
        "torch",
        "torch_geometric",
        "accelerate",
        "sklearn",
        "faiss",
        "safetensors",
        "matplotlib",
    ),
}


@contextmanager
def named_extra(kind: str, purpose: str = "be used") -> Iterator[None]:
    """Says which extra to install where a library is missing; also decorates a member's `fit`."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "models"):
            raise  # ours, so a bug
        extra = EXTRAS.get(kind, "serving")
        raise UnknownMemberKindError(
            f"member kind {kind!r} needs the module {missing!r} to {purpose}, and it is not "
            f"installed; install it with: {how_to_install(extra)}"
        ) from error


def check_fittable(kind: str, options: Any = None) -> Needs:
    """Refuse a fit of `kind` with `options` that would miss something; returns what those need.

    A fit may come to its last import after hours; this looks for all of them and loads none. Of a
    module the error names the extra that brings it.
    """
    with named_extra(kind, "be fitted"):
        require_modules(MODULES.get(kind, ()))
    needs = options.needs() if isinstance(options, Needy) else Needs()
    with named_extra(kind, "be fitted"):
        require_modules(needs.modules)
    return needs


def member_class(kind: str) -> type[Member]:
    """The class of members of `kind`."""
    if kind not in KINDS:
        raise UnknownMemberKindError(f"no member kind {kind!r}; known kinds: {', '.join(KINDS)}")
    module, _, name = KINDS[kind].partition(":")
    with named_extra(kind):
        found: type[Member] = getattr(import_module(module), name)
    return found


def make_member(kind: str, name: str, options: Mapping[str, Any]) -> Member:
    """An unfitted member of `kind`; `options` are checked against the kind's own dataclass."""
    made_of = member_class(kind)
    try:
        return made_of(name, parse(made_of.Options, dict(options)))
    except ValidationError as error:
        raise ConfigError(
            f"options of member {name!r}: {complaints(error)}; "
            f"known options of kind {kind!r}: {', '.join(known_keys(made_of.Options))}"
        ) from error
