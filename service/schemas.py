"""What travels on the wire: requests, checked to the last field, and answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from models.labels import Label
from models.locales import Locale
from models.pairs import PRODUCT_FIELDS
from models.release import Manifest
from models.text import normalise
from models.vectors.shelf import Supplied
from service.neighbourhoods import Neighbourhoods


@dataclass(frozen=True)
class Limits:
    """How much one request may hold."""

    pairs: int
    text_characters: int


def _bounded(text: str, info: ValidationInfo[Limits]) -> str:
    if len(text) > (limit := info.context.text_characters):
        raise PydanticCustomError(
            "text_too_long",
            "found {found} characters, expected at most {limit}; cut the text, no model reads on",
            {"found": len(text), "limit": limit},
        )
    return text


def _telling(text: str) -> str:
    if not normalise(text):
        raise PydanticCustomError(
            "text_empty",
            "found no text, expected what a customer typed; markup and invisible characters are "
            "not counted",
        )
    return text


def _few(items: list[Any], info: ValidationInfo[Limits]) -> list[Any]:
    if len(items) > (limit := info.context.pairs):
        raise PydanticCustomError(
            "too_many_pairs",
            "found {found} pairs, expected at most {limit}; split the request",
            {"found": len(items), "limit": limit},
        )
    return items


Text = Annotated[str, AfterValidator(_bounded)]
QueryText = Annotated[
    str, AfterValidator(_bounded), AfterValidator(_telling), Field(description="As it was typed.")
]


class _Wire(BaseModel):
    # A misspelt field would otherwise be a text that is silently not read.
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProductIn(_Wire):
    """A product and its texts, as they stand in the catalogue; HTML is understood."""

    product_id: Annotated[str, Field(min_length=1, max_length=256)]
    title: Text
    description: Text = ""
    bullets: Text = ""
    brand: Text = ""
    colour: Text = ""

    @model_validator(mode="after")
    def _tells_something(self) -> Self:
        # The members would answer with what is most frequent, in full confidence.
        if not any(normalise(getattr(self, name)) for name in PRODUCT_FIELDS):
            raise PydanticCustomError(
                "product_empty",
                "found no text in any field, expected at least a title; markup and invisible "
                "characters are not counted",
            )
        return self


class PairIn(_Wire):
    """One query and one product."""

    query: QueryText
    locale: Locale
    product: ProductIn


class QueryRequest(_Wire):
    """One query with many products: a result list."""

    query: QueryText
    locale: Annotated[Locale, Field(description="Of the query and of every product.")]
    products: Annotated[list[ProductIn], Field(min_length=1), AfterValidator(_few)]


class PairsRequest(_Wire):
    """Any pairs, in any mixture of queries and locales."""

    pairs: Annotated[list[PairIn], Field(min_length=1), AfterValidator(_few)]


def _form(body: Any) -> str:
    return "pairs" if isinstance(body, dict) and "pairs" in body else "products"


ClassifyRequest: TypeAlias = Annotated[
    Annotated[QueryRequest, Tag("products")] | Annotated[PairsRequest, Tag("pairs")],
    Discriminator(_form),
]
REQUEST: Final[TypeAdapter[QueryRequest | PairsRequest]] = TypeAdapter(ClassifyRequest)


class Probabilities(BaseModel):
    """How likely each label is; they add up to one, but for rounding."""

    E: float
    S: float
    C: float
    I: float  # noqa: E741 - the labels are called so


class PairOut(BaseModel):
    """The answer to one pair."""

    product_id: str
    label: Annotated[Label, Field(description="The most likely label.")]
    label_name: Literal["Exact", "Substitute", "Complement", "Irrelevant"]
    probabilities: Probabilities
    expected_gain: Annotated[
        float, Field(description="Mean gain under the gain table; sort by it to rank.")
    ]
    cached: Annotated[bool, Field(description="Whether this pair had been answered before.")]


class ClassifyAnswer(BaseModel):
    """The answers in the order of the pairs asked, and what gave them."""

    release_id: str
    members_used: list[str]
    gain_table: Annotated[str, Field(description="Names the gains behind `expected_gain`.")]
    results: list[PairOut]
    timings_ms: Annotated[
        dict[str, float], Field(description="Milliseconds of each phase, and `total`.")
    ]


class MemberOut(BaseModel):
    """One model of the ensemble."""

    name: str
    kind: str
    milliseconds_per_pair: Annotated[
        float | None, Field(description="As measured when it was trained; null where it was not.")
    ]
    megabytes: Annotated[
        float | None, Field(description="Of memory, as measured; null where it was not.")
    ]


class ModelsAnswer(BaseModel):
    """The models behind the answers."""

    release_id: str
    members: list[MemberOut]


class LimitsOut(BaseModel):
    """What one request may hold, and all of them together."""

    max_pairs: int
    max_text_characters: int
    max_body_bytes: int
    max_queued_pairs: int


class ProductVectorsOut(BaseModel):
    """Whether a bi-encoder looks up products whose vectors were stored, and how often it did."""

    member: str
    store: Annotated[
        Literal["used", "none", "damaged"],
        Field(description="none: no vectors of this very member are there; the log says why."),
    ]
    vectors: Annotated[int | None, Field(description="In the store; null where none is used.")]
    products_stored: Annotated[int, Field(description="Looked up since this process started.")]
    products_encoded: Annotated[int, Field(description="Made for requests, likewise.")]


class NeighbourhoodsOut(BaseModel):
    """Where a graph member looks up neighbourhoods that were computed ahead, and how that goes."""

    member: str
    store: Annotated[
        str | None, Field(description="folder, sqlite or redis; null where none was found.")
    ]
    healthy: Annotated[bool, Field(description="Whether the store is asked; else all is computed.")]
    troubles: Annotated[int, Field(description="Times it was asked in vain since the start.")]
    products_stored: Annotated[int, Field(description="Looked up since this process started.")]
    products_computed: Annotated[int, Field(description="Computed for requests, likewise.")]


class InfoAnswer(BaseModel):
    """What is being served and how it was made."""

    release_id: str
    members: list[MemberOut]
    labels: list[str]
    locales: list[str]
    gain_table: str
    gains: dict[Label, float]
    metrics: Annotated[dict[str, Any], Field(description="Measured on held-out queries.")]
    data_fingerprint: str
    versions: Annotated[dict[str, str], Field(description="Of what trained the release.")]
    limits: LimitsOut
    product_vectors: Annotated[
        list[ProductVectorsOut], Field(description="Of each member that compares vectors.")
    ]
    neighbourhoods: Annotated[
        list[NeighbourhoodsOut], Field(description="Of each member that hears neighbourhoods.")
    ]


class CacheOut(BaseModel):
    """How the label cache fares; the service answers without it, only slower."""

    store: str
    healthy: bool
    troubles: int


class ReadyAnswer(BaseModel):
    """The release is verified and answers."""

    status: Literal["ready"]
    release_id: str
    label_cache: CacheOut


class AliveAnswer(BaseModel):
    """The process runs."""

    status: Literal["alive"]


EXAMPLES: Final[Mapping[str, Any]] = {
    "one query, many products": {
        "summary": "One query with a result list",
        "value": {
            "query": "wireless mouse without bluetooth",
            "locale": "us",
            "products": [
                {
                    "product_id": "B001",
                    "title": "Quellin Wireless Mouse, 2.4 GHz with USB Receiver",
                    "brand": "Quellin",
                    "colour": "Grey",
                },
                {
                    "product_id": "B002",
                    "title": "Mouse Pad, 25 x 21 cm",
                    "bullets": "Non-slip base\nStitched edges",
                },
            ],
        },
    },
    "any pairs": {
        "summary": "Pairs of several queries and locales",
        "value": {
            "pairs": [
                {
                    "query": "zapatillas para correr mujer",
                    "locale": "es",
                    "product": {"product_id": "B003", "title": "Zapatillas de running, mujer"},
                },
                {
                    "query": "ワイヤレスマウス 静音",
                    "locale": "jp",
                    "product": {"product_id": "B004", "title": "静音ワイヤレスマウス 2.4GHz 黒"},
                },
            ]
        },
    },
}


# The forms of a classification, as the API page names them.
REQUEST_MODELS: Final = (QueryRequest, PairsRequest)


def product_vectors_of(supplied: Supplied) -> list[ProductVectorsOut]:
    """What became of the stored vectors of each member that compares any."""
    return [
        ProductVectorsOut(
            member=member.name,
            store=(
                "used"
                if member.name in supplied.products
                else "damaged"
                if member.name in supplied.damaged
                else "none"
            ),
            vectors=supplied.products.get(member.name),
            products_stored=member.product_counts().stored,
            products_encoded=member.product_counts().encoded,
        )
        for member in supplied.embedders
    ]


def neighbourhoods_of(found: Neighbourhoods) -> list[NeighbourhoodsOut]:
    """How the stores of graph members fare."""
    answers = []
    for member in found.neighbourly:
        store, counts = found.stores.get(member.name), member.product_counts()
        health = store.health() if store else None
        answers.append(
            NeighbourhoodsOut(
                member=member.name,
                store=health.store if health else None,
                healthy=health.healthy if health else True,
                troubles=health.troubles if health else 0,
                products_stored=counts.stored,
                products_computed=counts.encoded,
            )
        )
    return answers


def members_of(manifest: Manifest) -> list[MemberOut]:
    """The members of a release as the wire names them."""
    return [
        MemberOut(
            name=member.name,
            kind=member.kind,
            # A cost that is not measured is zero in a release: see models.member.Cost.
            milliseconds_per_pair=member.cost.milliseconds_per_pair or None,
            megabytes=member.cost.megabytes or None,
        )
        for member in manifest.members
    ]
