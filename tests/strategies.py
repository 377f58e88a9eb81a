"""Hypothesis strategies: texts as catalogues really hold them, products, pairs, labelled pairs."""

import numpy as np
from hypothesis import strategies as st

from models.labels import LABELS
from models.locales import LOCALES
from models.pairs import PRODUCT_FIELDS, LabelledPairs, Pairs, Products, Queries

# What breaks a reader of catalogues, and what makes two texts overlap at all.
_TELLING = (
    "wireless headphones",
    "64 GB",
    "64gb",
    "1,000 ml",
    "without straps",
    "case for iPhone 11",
    "niño",
    "NIÑO ",
    "zapatillas sin cordones",
    "ｱｲﾌｫﾝ ケース",
    "コーヒーメーカー10杯用",
    "肘掛けなし",
    "l'oréal",
    "<b>bold</b> &amp;amp; escaped",
    "<script>var a = '<b>';</script>x",
    "&lt;p&gt;twice&lt;/p&gt;",
    "tab\tand\x00control\x1f\x7f",
    "soft\u00adhyphen zero\u200bwidth \u202eright",
    "👩‍👩‍👧‍👦 ☕️ 🇪🇸",
    "ﬁne ½ Ⅻ İstanbul straße ẞ",
    "e\u0301 é",
    "...---!!!",
    "٣ ৩ ²",
    "a" * 200,
)


def texts() -> st.SearchStrategy[str]:
    """Any text: empty, telling, arbitrary, and these joined."""
    piece = st.one_of(st.sampled_from(_TELLING), st.text(max_size=12))
    return st.one_of(st.just(""), piece, st.lists(piece, max_size=4).map(" ".join))


def _rows() -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries(
        {
            "product_id": st.sampled_from(["P1", "P2", "B07XYZ", "商品"]),
            "locale": st.sampled_from(LOCALES),
            **{name: texts() for name in PRODUCT_FIELDS},
        }
    )


def products(min_size: int = 0, max_size: int = 5) -> st.SearchStrategy[Products]:
    """Products of all locales; fields may be empty, ids may repeat."""
    return st.lists(_rows(), min_size=min_size, max_size=max_size).map(Products.of)


def queries(min_size: int = 0, max_size: int = 4) -> st.SearchStrategy[Queries]:
    """Queries of all locales; a text may be empty or come twice."""
    pair = st.tuples(texts(), st.sampled_from(LOCALES))
    return st.lists(pair, min_size=min_size, max_size=max_size).map(
        lambda rows: Queries.of([text for text, _ in rows], [locale for _, locale in rows])
    )


@st.composite
def pairs(draw: st.DrawFn, min_size: int = 0, max_size: int = 8) -> Pairs:
    """Pairs over small tables; rows of the tables may go unused, pairs may repeat."""
    table = draw(queries(min_size=1)), draw(products(min_size=1))
    size = draw(st.integers(min_size, max_size))
    rows = [
        np.array(
            draw(st.lists(st.integers(0, len(side) - 1), min_size=size, max_size=size)), np.int32
        )
        for side in table
    ]
    return Pairs(*table, *rows)


@st.composite
def labelled_pairs(draw: st.DrawFn, min_size: int = 0, max_size: int = 8) -> LabelledPairs:
    """Pairs with any labels."""
    unlabelled = draw(pairs(min_size, max_size))
    size = len(unlabelled)
    return LabelledPairs.of(
        unlabelled, draw(st.lists(st.sampled_from(LABELS), min_size=size, max_size=size))
    )
