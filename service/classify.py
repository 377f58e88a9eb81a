"""The path of a classification, top to bottom; each store is asked once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.labels import LABEL_NAMES, LABELS, gains
from models.member import Probabilities
from models.pairs import PRODUCT_FIELDS, Pairs, Products, Queries
from models.release import Release
from service import schemas
from service.complaints import complaints
from service.errors import InvalidRequestError
from service.label_cache import LabelCache, keys_amid, label_keys, pack, sound, unpack
from service.neighbourhoods import Neighbourhoods
from service.queue import WorkQueue
from service.schemas import ClassifyAnswer, PairOut, PairsRequest, ProductIn, QueryRequest


@dataclass
class Answers:
    """Probabilities per pair, which of them were known, and the milliseconds of each phase."""

    probabilities: Probabilities
    cached: list[bool]
    forgone: int  # pairs whose answers were not remembered
    phases_ms: dict[str, float] = field(default_factory=dict)


async def classify(
    pairs: Pairs,
    keys: Sequence[bytes],
    release: Release,
    neighbourhoods: Neighbourhoods,
    cache: LabelCache,
    queue: WorkQueue,
) -> Answers:
    """Probabilities per pair, from the cache where we have answered before.

    What the cache says is what would be computed now. So the editions of stored states are part of
    the key, and nothing is remembered that was computed of others: a store may switch over after it
    was asked for its edition. A product that an edition does not hold is computed from its text and
    the release's graph, alike for as long as the edition is current, so that is remembered. While a
    store is away every product is computed so, those that it holds too: then the cache is neither
    read nor written.
    """
    phases: dict[str, float] = {}
    started = time.perf_counter()
    editions = await neighbourhoods.editions()
    if neighbourhoods.stores:
        phases["editions"] = _milliseconds_since(started)
        started = time.perf_counter()
    known: dict[bytes, bytes] = {}
    if editions is not None:
        keys = keys_amid(keys, editions)
        known = sound(await cache.get_many(keys))
    phases["cache_read"] = _milliseconds_since(started)
    cached, forgone = [key in known for key in keys], 0
    # By key, so a pair that stands twice in a request is computed once.
    missing = {key: row for row, key in enumerate(keys) if key not in known}
    if missing:
        wanted = pairs.take(np.fromiter(missing.values(), np.int32, len(missing))).compact()
        (fresh, looked_up_in), timed = await queue.run(
            len(missing), lambda: neighbourhoods.watched(lambda: release.ensemble.predict(wanted))
        )
        answers = dict(zip(missing, pack(fresh), strict=True))
        phases["queue"] = timed.queued_seconds * 1000
        phases["predict"] = timed.work_seconds * 1000
        if editions is not None and looked_up_in == editions:
            started = time.perf_counter()
            await cache.put_many(answers)
            phases["cache_write"] = _milliseconds_since(started)
        else:
            forgone = len(answers)
        known |= answers
    return Answers(unpack([known[key] for key in keys]), cached, forgone, phases)


def prepare(body: bytes, limits: schemas.Limits, release_id: str) -> tuple[Pairs, list[bytes]]:
    """The pairs in a body of JSON and their keys."""
    pairs = to_pairs(parse_request(body, limits))
    return pairs, label_keys(release_id, pairs)


def parse_request(body: bytes, limits: schemas.Limits) -> QueryRequest | PairsRequest:
    """The request in a body of JSON; an InvalidRequestError says what is wrong, and where."""
    try:
        return schemas.REQUEST.validate_json(body, context=limits)
    except ValidationError as error:
        # The cause would carry the texts of the request into the log.
        raise InvalidRequestError(complaints(error)) from None


def to_pairs(request: QueryRequest | PairsRequest) -> Pairs:
    """The pairs a request asks for, in its order."""
    if isinstance(request, QueryRequest):
        products = Products.of([_fields(one, request.locale) for one in request.products])
        return Pairs.of_query(request.query, request.locale, products)
    distinct = dict.fromkeys((one.query, one.locale) for one in request.pairs)
    rows = {query: row for row, query in enumerate(distinct)}
    return Pairs(
        Queries.of([query for query, _ in rows], [locale for _, locale in rows]),
        Products.of([_fields(one.product, one.locale) for one in request.pairs]),
        np.array([rows[one.query, one.locale] for one in request.pairs], np.int32),
        np.arange(len(request.pairs), dtype=np.int32),
    )


def to_answer(pairs: Pairs, answers: Answers, release: Release) -> ClassifyAnswer:
    """The wire form of `answers`."""
    probabilities = answers.probabilities.astype(np.float64)
    expected = _nine_digits(probabilities @ gains(release.manifest.gain_table)).tolist()
    best = probabilities.argmax(axis=1).tolist()
    rows = _nine_digits(probabilities).tolist()
    product_ids = list(pairs.products.ids)
    results = [
        PairOut.model_construct(
            product_id=product_ids[product],
            label=LABELS[best[row]],
            label_name=LABEL_NAMES[LABELS[best[row]]],
            probabilities=schemas.Probabilities.model_construct(
                **dict(zip(LABELS, rows[row], strict=True))
            ),
            expected_gain=expected[row],
            cached=answers.cached[row],
        )
        for row, product in enumerate(pairs.product_rows.tolist())
    ]
    return ClassifyAnswer.model_construct(
        release_id=release.release_id,
        members_used=list(release.ensemble.members_used),
        gain_table=release.manifest.gain_table,
        results=results,
        timings_ms={phase: round(spent, 3) for phase, spent in answers.phases_ms.items()},
    )


def _fields(product: ProductIn, locale: str) -> dict[str, str]:
    texts = {name: getattr(product, name) for name in PRODUCT_FIELDS}
    return {"product_id": product.product_id, "locale": locale, **texts}


def _nine_digits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values to nine significant digits: what tells one float32 from the next, and no more.

    Not decimals: a probability of 1e-10 rounded to zero would make somebody's log-loss infinite.
    """
    tiny = np.finfo(np.float32).tiny
    scale = 10.0 ** (8 - np.floor(np.log10(np.maximum(np.abs(values), tiny))))
    return np.round(values * scale) / scale


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
