"""A dozen products, a few queries in three locales, and a release trained on them in no time."""

from pathlib import Path

import numpy as np

from models.pairs import LabelledPairs, Pairs, Products, Queries
from models.registry import make_member
from models.release import write_release

PRODUCTS = [
    ("us", "P1", "Zentara N7 smartphone 64GB black", "Zentara", "black"),
    ("us", "P2", "Zentara N7 smartphone 128GB blue", "Zentara", "blue"),
    ("us", "P3", "Silicone case for Zentara N7", "Covera", "clear"),
    ("us", "P4", "Garden hose 25 ft", "Hoselo", "green"),
    ("es", "P5", "Zapatillas de correr para niño azules", "Rapida", "azul"),
    ("es", "P6", "Zapatillas de correr para mujer", "Rapida", "rosa"),
    ("es", "P7", "Cordones para zapatillas", "Lazo", "blanco"),
    ("es", "P8", "Taladro inalámbrico 18V", "Tornia", "rojo"),
    ("jp", "P9", "コーヒーメーカー 10杯用 ブラック", "カフェノ", "黒"),
    ("jp", "P10", "コーヒーメーカー 5杯用 ホワイト", "カフェノ", "白"),
    ("jp", "P11", "コーヒーフィルター 100枚", "ロカ", ""),
    ("jp", "P1", "自転車 26インチ", "ペダロ", "赤"),
]
QUERIES = [
    ("us", "zentara n7 64gb black", "ESCI"),
    ("us", "blue zentara phone", "SECI"),
    ("es", "zapatillas de correr niño", "ESCI"),
    ("es", "zapatillas mujer", "SECI"),
    ("jp", "コーヒーメーカー 10杯", "ESCI"),
    ("jp", "コーヒーメーカー 白", "SECI"),
]


def tiny_products() -> Products:
    """Four products per locale; the id P1 occurs in two of them."""
    keys = ("locale", "product_id", "title", "brand", "colour")
    return Products.of([dict(zip(keys, row, strict=True)) for row in PRODUCTS])


def tiny_pairs() -> LabelledPairs:
    """Every query with the four products of its locale, all four labels."""
    products = tiny_products()
    queries = Queries.of([text for _, text, _ in QUERIES], [locale for locale, _, _ in QUERIES])
    query_rows, product_rows, labels = [], [], []
    for query, (_, _, answers) in enumerate(QUERIES):
        mine = np.flatnonzero(products.locales == queries.locales[query])
        query_rows += [query] * len(mine)
        product_rows += mine.tolist()
        labels += list(answers)
    pairs = Pairs(
        queries, products, np.array(query_rows, np.int32), np.array(product_rows, np.int32)
    )
    return LabelledPairs.of(pairs, labels)


def tiny_release(parent: Path) -> Path:
    """A release of one lexical member fitted on the tiny pairs, below `parent`."""
    pairs = tiny_pairs()
    member = make_member("lexical", "lexical", {}).fit(pairs, pairs)
    return write_release(
        parent,
        [("lexical", member)],
        pairs.without_labels(),
        metrics={},
        configuration={"seed": 7},
        versions={},
        data_fingerprint="tiny",
    )
