"""The products of the demo as small integers: about thirty bytes each, and no text.

Every later stage looks products up here, so a million products cost some tens of megabytes however
long their texts are. Texts are made from these columns chunk by chunk (`products.py`) and are
never held.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.concepts import (
    AUDIENCES,
    BRAND_NAMES,
    COLOURS,
    DEVICE_TYPES,
    MATERIALS,
    MAX_FEATURES,
    N_TYPES,
    PRODUCT_TYPES,
    SIZE_COUNTS,
    TYPE_OF,
    department_brands,
)
from pipelines.demo.options import CHUNK_PRODUCTS, DemoOptions, chunks, stream

# Codes start at 1 where 0 means "has none" on a product and "does not care" on a query.
COLUMNS: Final = np.dtype(
    [
        ("item", np.int32),  # what the product_id is made of; a product sold in two locales has one
        ("line", np.int32),  # a model and its variants in colour and size
        ("look", np.uint32),  # random bits that choose wording and which fields are filled
        ("popularity", np.float32),
        ("device", np.int16),  # the device model it is, or is made for
        ("locale", np.int8),
        ("type", np.int8),
        ("brand", np.int8),
        ("colour", np.int8),
        ("size", np.int8),
        ("material", np.int8),
        ("audience", np.int8),
        ("features", np.uint8),  # one bit per feature of its type
        ("new", np.bool_),  # so new that nobody has been shown it
    ]
)
Columns = NDArray[np.void]
"""Products as records of COLUMNS."""

_LOCALE_SHARES: Final = (0.68, 0.14, 0.18)
_VARIANTS_PER_LINE: Final = 4
_TWIN_SHARE: Final = 0.03  # of es and jp products, sold in us under the same product_id
_UNIVERSAL: Final = {TYPE_OF["charger"]: 0.5}  # accessories that fit every device, and how often


@dataclass(frozen=True)
class Plan:
    """Which brand makes what, and the device models there are."""

    pools: NDArray[np.int64]  # (types, places): brand codes
    pool_sizes: NDArray[np.int64]  # (types,)
    series: int  # device models per device type and brand
    device_names: tuple[str, ...]  # by device code, "" for none
    device_brands: NDArray[np.int64]  # by device code
    device_types: NDArray[np.int64]  # by device code, -1 for none

    def device_code(self, types: Any, places: Any, series: Any) -> NDArray[np.int64]:
        """The code of a device model: of the brand at a place of its type's pool."""
        slots = _DEVICE_SLOT[types]
        code = 1 + (slots * self.pools.shape[1] + places) * self.series + series
        return np.where(slots < 0, 0, code)


_DEVICE_SLOT: Final = np.full(N_TYPES, -1)
_DEVICE_SLOT[list(DEVICE_TYPES)] = np.arange(len(DEVICE_TYPES))


def make_plan(options: DemoOptions) -> Plan:
    """The plan that a seed and a catalogue size lead to."""
    rng = stream(options.seed, "plan")
    brands = [department_brands(spec.department) for spec in PRODUCT_TYPES]
    sizes = np.array([max(3, round(0.7 * len(pool))) for pool in brands])
    pools = np.zeros((N_TYPES, sizes.max()), np.int64)
    for t, pool in enumerate(brands):
        pools[t, : sizes[t]] = rng.permutation(pool)[: sizes[t]]

    # More products, more device models; yet never so many that a device has no accessories.
    series = int(np.clip(np.sqrt(options.products) / 14, 3, 96))
    names, makers, kinds = [""], [0], [-1]
    for t in DEVICE_TYPES:
        letters = rng.permutation(list("ABCDEFGHKLMNPRSTVXZ"))
        step = int(rng.choice([1, 2, 10, 50]))
        for place in range(pools.shape[1]):
            brand = int(pools[t, place])
            makers += [brand] * series
            kinds += [t] * series
            names += [
                f"{BRAND_NAMES[brand]} {letters[place]}{step * (s + 2)}" for s in range(series)
            ]
    return Plan(pools, sizes, series, tuple(names), np.array(makers), np.array(kinds))


def _stratified(rng: np.random.Generator, shares: Any, count: int) -> NDArray[np.int64]:
    """So many choices in random order, each as often as its share says, to within one."""
    bounds = np.cumsum(shares) / np.sum(shares)
    places = (rng.permutation(count) + rng.random()) / count
    return np.minimum(np.searchsorted(bounds, places, side="right"), len(bounds) - 1)


def _choose(rng: np.random.Generator, limits: NDArray[Any], skew: float = 1.0) -> NDArray[np.int64]:
    """A number below each limit, small ones more often the larger the skew; 0 where it is 0."""
    return (limits * rng.random(len(limits)) ** skew).astype(np.int64)


_SIZES: Final = np.array([SIZE_COUNTS[spec.sizes] for spec in PRODUCT_TYPES])
_MATERIAL_COUNTS: Final = np.array([len(spec.materials) for spec in PRODUCT_TYPES])
_MATERIAL_CODES: Final = np.zeros((N_TYPES, _MATERIAL_COUNTS.max()), np.int8)
for _type, _spec in enumerate(PRODUCT_TYPES):
    _codes = [MATERIALS.index(material) + 1 for material in _spec.materials]
    _MATERIAL_CODES[_type, : len(_codes)] = _codes
_FEATURE_MASKS: Final = np.array([(1 << len(spec.features)) - 1 for spec in PRODUCT_TYPES])
_COLOURED: Final = np.array([spec.coloured for spec in PRODUCT_TYPES])
_WORN: Final = np.array([spec.worn for spec in PRODUCT_TYPES])
# The device type whose models a product names: its own, or the one it is made for.
_NAMED_TYPE: Final = np.array(
    [TYPE_OF[spec.fits] if spec.fits else t for t, spec in enumerate(PRODUCT_TYPES)]
)
_SHARES: Final = np.array([spec.share for spec in PRODUCT_TYPES])


def _chunk(options: DemoOptions, plan: Plan, number: int, first: int, stop: int) -> Columns:
    rng, rows = stream(options.seed, "catalogue", number), stop - first
    starts = rng.random(rows) < 1 / _VARIANTS_PER_LINE
    starts[0] = True
    line = np.cumsum(starts) - 1  # (rows,)
    lines = int(line[-1]) + 1

    # What the variants of a line share.
    locale = _stratified(rng, _LOCALE_SHARES, lines)
    type_ = _stratified(rng, _SHARES, lines)
    place = _choose(rng, plan.pool_sizes[type_], skew=1.6)
    named = _NAMED_TYPE[type_]
    own = named == type_
    device_place = np.where(own, place, _choose(rng, plan.pool_sizes[named], skew=1.6))
    device = plan.device_code(named, device_place, _choose(rng, np.full(lines, plan.series), 1.4))
    for accessory, share in _UNIVERSAL.items():
        device[(type_ == accessory) & (rng.random(lines) < share)] = 0
    material = _MATERIAL_CODES[type_, _choose(rng, _MATERIAL_COUNTS[type_])]
    features = rng.integers(0, 1 << MAX_FEATURES, lines) & _FEATURE_MASKS[type_]
    audience = np.where(_WORN[type_], 1 + rng.integers(0, len(AUDIENCES), lines), 0)

    columns = np.zeros(rows, COLUMNS)
    columns["item"] = np.arange(first, stop)
    columns["line"] = 1 + first + line
    for name, values in (
        ("locale", locale), ("type", type_), ("brand", plan.pools[type_, place]),
        ("device", device), ("material", material), ("features", features),
        ("audience", audience),
    ):  # fmt: skip
        columns[name] = values[line]

    # What tells the variants apart.
    types = columns["type"]
    columns["colour"] = np.where(
        _COLOURED[types], 1 + _choose(rng, np.full(rows, len(COLOURS)), skew=1.7), 0
    )
    columns["size"] = np.where(_SIZES[types] > 0, 1 + _choose(rng, _SIZES[types]), 0)
    columns["look"] = rng.integers(0, 2**32, rows, dtype=np.uint32)
    columns["popularity"] = rng.standard_exponential(rows)
    columns["new"] = rng.random(rows) < options.new_share
    _twin(columns, rng)
    return columns


def _twin(columns: Columns, rng: np.random.Generator) -> None:
    """Turn some products of es and jp into us products sold there under the same product_id."""
    abroad = np.flatnonzero((columns["locale"] > 0) & (rng.random(len(columns)) < _TWIN_SHARE))
    at_home = rng.permutation(np.flatnonzero(columns["locale"] == 0))[: len(abroad)]
    abroad = abroad[: len(at_home)]
    own = {name: columns[name][abroad] for name in ("locale", "look", "popularity", "new")}
    columns[abroad] = columns[at_home]
    for name, values in own.items():
        columns[name][abroad] = values


def make_catalogue(options: DemoOptions, plan: Plan) -> Columns:
    """Every product of the catalogue, in the order in which it is written."""
    columns = np.empty(options.products, COLUMNS)
    for number, first, stop in chunks(options.products, CHUNK_PRODUCTS):
        columns[first:stop] = _chunk(options, plan, number, first, stop)
    return columns


# "B0" and eight digits in base 36, as the real identifiers look.
_ID_DIGITS: Final = 8
_ALPHABET: Final = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)
_MULTIPLIER: Final = 57_885_161_893  # shares no factor with 36, so no two items share an id


def product_ids(items: NDArray[np.int32], seed: int) -> NDArray[np.bytes_]:
    """The product_id of each item, scattered so that neighbours look unrelated."""
    space = 36**_ID_DIGITS
    numbers = (items.astype(np.int64) * _MULTIPLIER + seed % space) % space
    letters = np.empty((len(items), 2 + _ID_DIGITS), np.uint8)
    letters[:, :2] = np.frombuffer(b"B0", np.uint8)
    for place in range(_ID_DIGITS):
        letters[:, -1 - place] = _ALPHABET[numbers % 36]
        numbers //= 36
    return letters.view(f"S{2 + _ID_DIGITS}")[:, 0]
