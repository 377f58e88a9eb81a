"""What is wrong with a body, in our words: what was found, what was expected, what to do."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from models.locales import LOCALES
from service.errors import Complaint
from service.schemas import PairIn, PairsRequest, ProductIn, QueryRequest

# Enough to mend a body; a thousand wrong products have one reason between them.
_MOST: Final = 10
_MAX_POINTER: Final = 120
_MAX_NAME: Final = 40

Place = tuple[int | str, ...]

# Which shape stands where: the place without its positions. The first part is the form of the
# request, which is no field.
_SHAPES: Final[Mapping[Place, type[BaseModel]]] = MappingProxyType(
    {
        ("products",): QueryRequest,
        ("products", "products"): ProductIn,
        ("pairs",): PairsRequest,
        ("pairs", "pairs"): PairIn,
        ("pairs", "pairs", "product"): ProductIn,
    }
)

# What other catalogues and clients call our fields. Names that resemble ours need no entry.
_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "asin": "product_id",
        "documents": "products",
        "id": "product_id",
        "item": "product",
        "items": "products",
        "lang": "locale",
        "language": "locale",
        "name": "title",
        "product_brand": "brand",
        "product_bullet_point": "bullets",
        "product_color": "colour",
        "product_locale": "locale",
        "product_title": "title",
        "q": "query",
        "sku": "product_id",
        "text": "title",
    }
)


def complaints(error: ValidationError) -> list[Complaint]:
    """What pydantic found, at most ten troubles of it; no text of the request is repeated."""
    found = error.errors(include_url=False)
    if any(_names_the_other_form(problem) for problem in found):
        detail = (
            "found pairs beside fields of the other form; expected either pairs alone, or query "
            "and locale with products; leave out one of the two"
        )
        return [Complaint("#/pairs", detail)]
    return [Complaint(_pointer(one["loc"]), _detail(one)) for one in found[:_MOST]]


def _names_the_other_form(problem: ErrorDetails) -> bool:
    form, *path = problem["loc"] or ("",)
    return (
        problem["type"] == "extra_forbidden"
        and form == "pairs"
        and len(path) == 1
        and path[0] in QueryRequest.model_fields
    )


def _detail(problem: ErrorDetails) -> str:
    in_words = _WORDS.get(problem["type"])
    return in_words(problem) if in_words else problem["msg"]  # a check of ours has its own words


def _unknown(problem: ErrorDetails) -> str:
    name, known = str(problem["loc"][-1]), _known(problem["loc"][:-1])
    meant = [_ALIASES.get(name.lower(), "")]
    meant += get_close_matches(name.lower()[:_MAX_NAME], known, 1)
    hint = next((f"; {one} is probably meant" for one in meant if one in known), "")
    return f"found a field of unknown name, expected {_listed(known, 'or')}{hint}"


def _missing(problem: ErrorDetails) -> str:
    return f"found no field {problem['loc'][-1]}, expected {_required(problem['loc'][:-1])}; add it"


def _no_object(problem: ErrorDetails) -> str:
    required = _required(problem["loc"])
    return f"found {_sort(problem['input'])}, expected an object with {required}"


def _no_list(problem: ErrorDetails) -> str:
    return f"found {_sort(problem['input'])}, expected a list of objects; put one into [ ]"


def _no_text(problem: ErrorDetails) -> str:
    todo = {
        type(None): "leave an optional field out",
        list: "join its entries with line breaks",
        dict: "send its texts one by one",
    }.get(type(problem["input"]), "put it in quotes")
    return f"found {_sort(problem['input'])}, expected text; {todo}"


def _no_locale(problem: ErrorDetails) -> str:
    known = _listed([repr(locale) for locale in LOCALES], "or")
    if isinstance(problem["input"], str):
        return f"found an unknown locale, expected {known}; choose that of the shop"
    return f"found {_sort(problem['input'])}, expected {known}"


def _no_json(problem: ErrorDetails) -> str:
    return f"found no JSON ({problem['ctx']['error']}), expected one object in UTF-8"


_WORDS: Final[Mapping[str, Callable[[ErrorDetails], str]]] = MappingProxyType(
    {
        "extra_forbidden": _unknown,
        "json_invalid": _no_json,
        "list_type": _no_list,
        "literal_error": _no_locale,
        "missing": _missing,
        "model_type": _no_object,
        "string_too_long": lambda problem: (
            f"found {len(problem['input'])} characters, expected at most "
            f"{problem['ctx']['max_length']}; send the key that your catalogue knows it by"
        ),
        "string_too_short": lambda _: (
            "found an empty text, expected at least 1 character; any text that tells products apart"
        ),
        "string_type": _no_text,
        "string_unicode": lambda _: "found half a character, expected text in valid Unicode",
        "too_short": lambda _: "found an empty list, expected at least 1 entry; ask for something",
    }
)


def _shape(place: Sequence[int | str]) -> type[BaseModel]:
    return _SHAPES[tuple(part for part in place if isinstance(part, str))]


def _known(place: Sequence[int | str]) -> list[str]:
    return list(_shape(place).model_fields)


def _required(place: Sequence[int | str]) -> str:
    shape = _shape(place)
    names = [name for name, field in shape.model_fields.items() if field.is_required()]
    # Whoever sent neither form should hear of both.
    return _listed(names, "and") + (", or pairs alone" if shape is QueryRequest else "")


def _listed(names: Sequence[str], last: str) -> str:
    """A, b and c."""
    return f" {last} ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])


def _sort(value: Any) -> str:
    """What JSON calls a value; not the value itself, which may be a customer's text."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"


def _pointer(place: Sequence[int | str]) -> str:
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in place[1:]]
    return "".join(["#", *(f"/{part}" for part in parts)])[:_MAX_POINTER]
