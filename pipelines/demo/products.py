"""What the products of the demo say of themselves, written a chunk at a time.

A text is a row of table look-ups glued together by Arrow: a Python string per phrase of the
vocabulary, none per product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.locales import LOCALES
from pipelines.demo.catalogue import Columns, Plan, product_ids
from pipelines.demo.concepts import (
    ADDITIVES,
    AUDIENCES,
    BRAND_KANA,
    BRAND_NAMES,
    COLOURS,
    MATERIALS,
    MAX_FEATURES,
    MAX_SIZES,
    N_TYPES,
    PRODUCT_TYPES,
)
from pipelines.demo.options import DemoOptions
from pipelines.demo.phrasing import ES, JP, US, full_width
from pipelines.demo.words import VOCABULARIES

# Names of lines without a model number.
_LINES: Final = (
    "Aurora", "Cumbre", "Delta", "Essence", "Fusion", "Galena", "Harmony", "Island", "Jade",
    "Kinetic", "Lumen", "Marea", "Nova", "Ocean", "Pulse", "Quartz", "Ridge", "Sierra", "Terra",
    "Urban", "Verano", "Willow", "Zenit", "Atlas", "Brisa", "Comet", "Dune", "Ember", "Flora",
)  # fmt: skip
_NUMBERED: Final = np.array([spec.numbered for spec in PRODUCT_TYPES])
_IS_DEVICE: Final = np.array([spec.is_device for spec in PRODUCT_TYPES])
_DEPARTMENTS: Final = tuple(dict.fromkeys(spec.department for spec in PRODUCT_TYPES))
_DEPARTMENT_OF: Final = np.array([_DEPARTMENTS.index(s.department) for s in PRODUCT_TYPES])

# How often the real catalogue leaves a field empty, per locale (us, es, jp).
_NULL_SHARES: Final = {
    "description": (0.48, 0.55, 0.60), "bullets": (0.15, 0.18, 0.20),
    "brand": (0.05, 0.03, 0.13), "colour": (0.12, 0.20, 0.22),
}  # fmt: skip


_LETTERS: Final = "ABCDEFGHJKLMNPQRSTVWXZ"
_PREFIXES: Final = tuple(
    _LETTERS[(brand * 7 + t * 3) % 22] + _LETTERS[(brand * 5 + t * 11 + 4) % 22] + "-"
    for brand in range(len(BRAND_NAMES))
    for t in range(N_TYPES)
)


def model_names(
    lines: NDArray[Any], brands: NDArray[Any], types: NDArray[Any], options: DemoOptions
) -> pa.Array:
    """Model numbers such as KX-2040.

    Lines of one brand and type share the letters and differ in the number, nearly always.
    """
    base = 1000 if options.products <= 100_000 else 10_000
    prefix = _look_up(_PREFIXES, brands.astype(np.int64) * N_TYPES + types)
    number = base + lines.astype(np.int64) * 7919 % (9 * base)
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(number), pa.string()), "")


def _look_up(table: Sequence[str], codes: NDArray[Any]) -> pa.Array:
    return pa.array(table, pa.string()).take(pa.array(codes.astype(np.int32)))


def _draw(looks: NDArray[np.uint32], number: int) -> NDArray[np.float64]:
    """The `number`th draw of each product, from 0 up to 1: its look, mixed as murmur3 ends."""
    mixed = looks ^ np.uint32(number * 0x9E3779B9 & 0xFFFFFFFF)
    for factor, shift in ((0x85EBCA6B, 13), (0xC2B2AE35, 16)):
        mixed = mixed * np.uint32(factor)
        mixed ^= mixed >> np.uint32(shift)
    return mixed / 2.0**32


_MASKS: Final = 1 << MAX_FEATURES
_AND: Final = (" and ", " y ", "・")
_NAMES_PER_TYPE: Final = 3


@dataclass(frozen=True)
class _Tables:
    """The phrases of one locale in the order of the codes they stand for."""

    names: tuple[str, ...]  # by type and choice of name
    colours: tuple[str, ...]
    materials: tuple[str, ...]
    audiences: tuple[str, ...]
    sizes: tuple[str, ...]  # by type and size
    features: tuple[str, ...]  # by type and mask: those that are set
    selling: tuple[str, ...]  # the same without additives
    lacking: tuple[str, ...]  # by type and mask: the first that is not set
    departments: tuple[str, ...]


@cache
def _tables(locale: int) -> _Tables:
    words = VOCABULARIES[locale]
    names, sizes, features, selling, lacking = [], [], [], [], []
    for spec in PRODUCT_TYPES:
        own = words.types[spec.name]
        for choice in range(_NAMES_PER_TYPE):
            name = own[choice % len(own)]
            names.append(name if locale == JP else name[:1].upper() + name[1:])
        values = words.sizes.get(spec.sizes, ())
        sizes += ["", *values, *[""] * (MAX_SIZES - len(values))]
        for mask in range(_MASKS):
            present = [name for bit, name in enumerate(spec.features) if mask >> bit & 1]
            absent = [name for bit, name in enumerate(spec.features) if not mask >> bit & 1]
            sold = [name for name in present if name not in ADDITIVES]
            features.append(_AND[locale].join(words.features[name] for name in present))
            selling.append(_AND[locale].join(words.features[name] for name in sold))
            lacking.append(words.features[absent[0]] if absent else "")
    return _Tables(
        tuple(names),
        ("", *(words.colours[colour][0] for colour in COLOURS)),
        ("", *(words.materials[material] for material in MATERIALS)),
        ("", *(words.audiences[audience] for audience in AUDIENCES)),
        tuple(sizes),
        tuple(features),
        tuple(selling),
        tuple(lacking),
        tuple(words.departments[name] for name in _DEPARTMENTS),
    )


class _Pieces:
    """Phrases of the products of one locale with the words around each, "" for what one lacks."""

    def __init__(self, columns: Columns, plan: Plan, options: DemoOptions, locale: int) -> None:
        self.tables = _tables(locale)
        self.columns = columns
        self.types = columns["type"].astype(np.int64)
        self._devices = plan.device_names
        self._named = _IS_DEVICE[self.types]
        choice = (self.draw(0) ** 2 * _NAMES_PER_TYPE).astype(np.int64)
        self._name_codes = self.types * _NAMES_PER_TYPE + choice
        self.kana = locale == JP and self.draw(1) < 0.3
        self.brand = pc.if_else(
            pa.array(np.broadcast_to(self.kana, len(columns))),
            _look_up(BRAND_KANA, columns["brand"]),
            _look_up(BRAND_NAMES, columns["brand"]),
        )
        self.maker = self._maker(options)

    def _maker(self, options: DemoOptions) -> pa.Array:
        """Brand and line, or the device model, which names its brand already."""
        columns = self.columns
        line = pc.if_else(
            pa.array(_NUMBERED[self.types]),
            model_names(columns["line"], columns["brand"], self.types, options),
            _look_up(_LINES, columns["line"] % len(_LINES)),
        )
        return pc.if_else(
            pa.array(self._named),
            _look_up(self._devices, columns["device"]),
            pc.binary_join_element_wise(self.brand, line, " "),
        )

    def draw(self, number: int) -> NDArray[np.float64]:
        """A random number per product."""
        return _draw(self.columns["look"], number)

    def often(self, number: int, share: float) -> NDArray[np.bool_]:
        """Whether something is mentioned at all."""
        return self.draw(number) < share

    def _around(self, form: str, table: Sequence[str], codes: Any, said: Any = True) -> pa.Array:
        phrases = [form.format(phrase) if phrase else "" for phrase in ("", *table)]
        return _look_up(phrases, np.where(said, codes + 1, 0))

    def name(self) -> pa.Array:
        """What it is called."""
        return _look_up(self.tables.names, self._name_codes)

    def colour(self, form: str, said: Any = True) -> pa.Array:
        """Its colour, where it has one."""
        return self._around(form, self.tables.colours, self.columns["colour"], said)

    def material(self, form: str, said: Any = True) -> pa.Array:
        """What it is made of."""
        return self._around(form, self.tables.materials, self.columns["material"], said)

    def audience(self, form: str) -> pa.Array:
        """Who it is made for."""
        return self._around(form, self.tables.audiences, self.columns["audience"])

    def size(self, form: str, said: Any = True) -> pa.Array:
        """Its size with unit."""
        codes = self.types * (MAX_SIZES + 1) + self.columns["size"]
        return self._around(form, self.tables.sizes, codes, said)

    def features(self, form: str, said: Any = True) -> pa.Array:
        """Every feature that sells it."""
        codes = self.types * _MASKS + self.columns["features"]
        return self._around(form, self.tables.selling, codes, said)

    def contents(self, form: str) -> pa.Array:
        """Every feature it has, additives among them."""
        codes = self.types * _MASKS + self.columns["features"]
        return self._around(form, self.tables.features, codes)

    def lacking(self, form: str, said: Any = True) -> pa.Array:
        """A feature it lacks."""
        codes = self.types * _MASKS + self.columns["features"]
        return self._around(form, self.tables.lacking, codes, said)

    def device(self, form: str) -> pa.Array:
        """The device it is made for; a device does not name itself."""
        return self._around(form, self._devices, self.columns["device"], ~self._named)

    def department(self, escaped: NDArray[np.bool_]) -> pa.Array:
        """A sentence on its department, with "&" escaped where it stands in HTML."""
        plain = self.tables.departments
        table = (*plain, *(text.replace("&", "&amp;") for text in plain))
        return _look_up(table, _DEPARTMENT_OF[self.types] + escaped * len(plain))

    def claim(self, claims: Sequence[str], number: int) -> pa.Array:
        """One of the things any product says of itself."""
        return _look_up(claims, self.draw(number) * len(claims))


def _glue(*parts: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _titles(p: _Pieces, locale: int, template: int) -> pa.Array:
    coloured, sized, featured = p.often(2, 0.65), p.often(3, 0.85), p.often(4, 0.5)
    if locale == US:
        if template == 0:
            return _glue(p.maker, " ", p.name(), p.features(" with {}", featured),
                         p.device(" for {}"), p.size(", {}", sized),
                         p.colour(", {}", coloured))  # fmt: skip
        if template == 1:
            return _glue(p.name(), p.audience(" for {}"), p.device(" Compatible with {}"),
                         p.size(" - {}", sized), " by ", p.maker, p.lacking(", no {}", featured),
                         p.colour(" ({})", coloured))  # fmt: skip
        return _glue(p.maker, " ", p.audience("{}'s "), p.colour("{} ", coloured),
                     p.material("{} ", featured), p.name(), p.device(" for {}"),
                     p.size(" | {}", sized), p.features(", with {}", p.often(5, 0.5)))  # fmt: skip
    if locale == ES:
        if template == 0:
            return _glue(p.name(), " ", p.maker, p.material(" {}", featured), p.device(" para {}"),
                         p.audience(" para {}"), p.size(", {}", sized),
                         p.colour(", color {}", coloured))  # fmt: skip
        if template == 1:
            return _glue(p.maker, " - ", p.name(), p.features(" con {}", featured),
                         p.device(" compatible con {}"), p.size(" ({})", sized),
                         p.colour(" {}", coloured))  # fmt: skip
        return _glue(p.name(), p.device(" para {}"), " de ", p.maker,
                     p.lacking(", sin {}", featured), p.size(" - {}", sized),
                     p.colour(" - {}", coloured), p.audience(" - {}"))  # fmt: skip
    if template == 0:
        return _glue(p.maker, " ", p.name(), p.device(" {}対応"), p.size(" {}", sized),
                     p.colour(" {}", coloured), p.features(" {}付き", featured))  # fmt: skip
    if template == 1:
        return _glue("【新モデル】", p.maker, " ", p.audience("{}"), p.material("{}", featured),
                     p.name(), p.size("（{}）", sized), p.colour(" {}", coloured),
                     p.device(" {}用"))  # fmt: skip
    return _glue(p.name(), p.device(" {}専用"), p.lacking("　{}なし", featured), " ", p.maker,
                 p.size(" {}", sized), p.audience(" {}"), p.colour(" {}系", coloured))  # fmt: skip


_OPENING: Final = ("", "<p>", '<div class="desc"><b>')
_CLOSING: Final = ("", "</p>", "</b><br/>&nbsp;</div>")


def _descriptions(p: _Pieces, locale: int) -> pa.Array:
    html = np.maximum((p.draw(6) * 5).astype(np.int64) - 2, 0)  # two in five
    opening, closing = _look_up(_OPENING, html), _look_up(_CLOSING, html)
    department = p.department(html > 0)
    if locale == US:
        return _glue(opening, "Meet the ", p.maker, ": ", p.name(), p.material(" in {}"),
                     p.device(" made for the {}"), ". ", department, p.size(" Size: {}."),
                     p.features(" It comes with {}."), closing)  # fmt: skip
    if locale == ES:
        return _glue(opening, "Descubre ", p.maker, ": ", p.name(), p.material(" {}"),
                     p.device(" para {}"), ". ", department, p.size(" Medida: {}."),
                     p.features(" Incluye {}."), closing)  # fmt: skip
    return _glue(opening, p.maker, "の", p.material("{}"), p.name(), p.device("（{}対応）"),
                 "です。", department, p.size("サイズ：{}。"), p.features("{}付き。"),
                 closing)  # fmt: skip


def _bullets(p: _Pieces, locale: int) -> pa.Array:
    claims = VOCABULARIES[locale].claims
    half, rest = claims[::2], claims[1::2]
    first, last = p.claim(half, 7), p.claim(rest, 8)
    lacking = p.often(9, 0.5)
    if locale == US:
        return _glue(first, "\n", p.contents("Contains {}\n"), p.lacking("No {}\n", lacking),
                     p.material("Made of {}\n"), p.device("Fits {} only\n"),
                     p.size("Size: {}\n"), last)  # fmt: skip
    if locale == ES:
        return _glue(first, "\n", p.contents("Contiene {}\n"), p.lacking("Sin {}\n", lacking),
                     p.material("Fabricado {}\n"), p.device("Compatible con {}\n"),
                     p.size("Medida: {}\n"), last)  # fmt: skip
    return _glue(first, "\n", p.contents("{}あり\n"), p.lacking("{}なし\n", lacking),
                 p.material("素材：{}\n"), p.device("{}専用設計\n"), p.size("サイズ：{}\n"),
                 last)  # fmt: skip


def _texts_of(
    columns: Columns, plan: Plan, options: DemoOptions, locale: int, template: int
) -> pa.Table:
    p = _Pieces(columns, plan, options, locale)
    titles = _titles(p, locale, template)
    if locale == JP:
        wide = p.often(10, 0.08)
        widened = [full_width(title) for title in titles.filter(pa.array(wide)).to_pylist()]
        titles = pc.replace_with_mask(titles, pa.array(wide), pa.array(widened, pa.string()))

    def filled(field: str, number: int, texts: pa.Array) -> pa.Array:
        return pc.if_else(pa.array(p.often(number, _NULL_SHARES[field][locale])), None, texts)

    colour = p.colour("{}")
    colour = pc.if_else(pc.equal(colour, ""), None, colour)
    return pa.table(
        {
            "product_id": product_ids(columns["item"], options.seed).astype(str),
            "product_title": titles,
            "product_description": filled("description", 11, _descriptions(p, locale)),
            "product_bullet_point": filled("bullets", 12, _bullets(p, locale)),
            "product_brand": filled("brand", 13, p.brand),
            "product_color": filled("colour", 14, colour),
            "product_locale": pa.repeat(LOCALES[locale], len(columns)),
        }
    )


def product_texts(columns: Columns, plan: Plan, options: DemoOptions) -> pa.Table:
    """The rows of the products file, in the order of `columns`."""
    templates = (_draw(columns["look"], 15) * 3).astype(np.int64)
    tables, rows = [], []
    for locale in range(len(LOCALES)):
        for template in range(3):
            here = np.flatnonzero((columns["locale"] == locale) & (templates == template))
            if len(here):
                tables.append(_texts_of(columns[here], plan, options, locale, template))
                rows.append(here)
    return pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(rows))))
