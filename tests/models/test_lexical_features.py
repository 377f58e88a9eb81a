"""Vectorised pair features equal plain ones, pair by pair, and mean what their names say."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.lexical.matching import products as p
from models.lexical.matching.arrays import load_arrays, save_arrays
from models.lexical.matching.matches import matched
from models.lexical.matching.pair_features import BM25_B, BM25_K, feature_names
from models.lexical.matching.pair_features import features_of as features_of_matches
from models.lexical.matching.products import (
    ProductFeatures,
    concatenated_features,
    prepare_products,
)
from models.lexical.matching.queries import prepare_queries
from models.lexical.matching.statistics import Statistics, count_words
from models.lexical.reading import tokens as t
from models.lexical.reading.hashing import joined, mixed, polynomial
from models.lexical.reading.scopes import Stream, read_stream
from models.lexical.reading.tokens import Vocabulary, Word, gram_hashes, number_tokens
from models.locales import encode_locales
from models.pairs import Pairs, Products
from tests.strategies import pairs, products
from tests.tiny import tiny_products


def features_of(asked: Pairs, statistics: Statistics) -> dict[str, np.ndarray]:
    """Features by name without the family; every query read in its own locale."""
    queries = prepare_queries(asked.queries.texts, asked.queries.locales, statistics)
    chunks = matched(
        queries, prepare_products(asked.products), statistics, asked.query_rows, asked.product_rows
    )
    found = np.concatenate([features_of_matches(chunk) for chunk in chunks])
    names = [name.partition(":")[2] for name in feature_names()]
    return dict(zip(names, found.T, strict=True))


def one(query: str, locale: str = "us", statistics: Statistics | None = None, **fields: str):
    table = Products.of([{"product_id": "P", "locale": locale, **fields}])
    statistics = statistics or count_words(prepare_products(tiny_products()))
    found = features_of(Pairs.of_query(query, locale, table), statistics)
    return {name: float(column[0]) for name, column in found.items()}


# The plain reference: sets, counters and loops over one pair.


def read(text: str, locale: str, limit: int) -> tuple[list[Word], Stream]:
    vocabulary = Vocabulary()
    indptr, numbers = number_tokens([text], encode_locales([locale]), vocabulary, limit)
    words = [vocabulary.words[number] for number in numbers]
    return words, read_stream(indptr, vocabulary.columns().take(numbers))


def grams_of(word: Word) -> list[int]:
    vocabulary = Vocabulary()
    vocabulary.words.append(word)
    return gram_hashes(vocabulary, np.array([0]))[1].tolist()


def written_together(first: Word, second: Word) -> int:
    parts = (np.array([value], np.uint64) for value in (first.root, second.root, second.power))
    return int(joined(*parts)[0])


LIMITS = {"title": 96, "brand": 16, "colour": 16, "bullets": 320, "description": 320}


def is_content(word: Word) -> bool:
    return not word.flags & t.FUNCTION


def plain_features(query: str, query_locale: str, table: Products, row: int, stats: Statistics):
    locale = table.locale(row)
    locales = encode_locales([query_locale])
    fields = {name: read(table.field(name)[row], locale, LIMITS[name]) for name in LIMITS}
    title = [word for word in fields["title"][0] if not word.flags & t.BREAK]
    content = {name: [w for w in words if is_content(w)] for name, (words, _) in fields.items()}
    everything = [word for name in LIMITS for word in (title if name == "title" else content[name])]
    title_roots, any_roots = {w.root for w in title}, {w.root for w in everything}
    neighbours = {
        written_together(first, second)
        for first, second in pairwise(fields["title"][0])
        if not (first.flags | second.flags) & t.BREAK
    }
    title_grams = {gram for word in content["title"] for gram in grams_of(word)}
    any_grams = title_grams | {
        gram
        for name, (words, _) in fields.items()
        for word in words
        if name != "title" and word.flags & t.JAPANESE
        for gram in grams_of(word)
    }
    claims = {}
    for name, (words, _) in fields.items():
        for at, word in enumerate(words):
            if word.flags & t.MEASURE:
                claims.setdefault((word.value, word.group), set()).add(name)
            following = words[at + 1] if at + 1 < len(words) else None
            if (
                following
                and word.flags & t.NUMBER
                and not word.flags & t.MEASURE
                and following.flags & t.UNIT
                and not following.flags & t.CONCEPT
            ):
                claims.setdefault((word.value, following.group), set()).add(name)

    words, stream = read(query, query_locale, 48)
    terms: dict[int, Word] = {}
    for word, denied in zip(words, stream.denied, strict=True):
        if is_content(word) and not denied:
            terms.setdefault(word.root, word)
    if not terms:
        for word, denied in zip(words, stream.denied, strict=True):
            if not word.flags & t.BREAK and not denied:
                terms.setdefault(word.root, word)
    kept = {w.root for w in terms.values()}

    def soft(word: Word, grams: set[int]) -> float:
        mine = grams_of(word)
        return sum(gram in grams for gram in mine) / len(mine) if mine else 0.0

    in_title, anywhere = {}, {}
    for root, word in terms.items():
        claimed = claims.get((word.value, word.group), set()) if word.flags & t.MEASURE else set()
        japanese = bool(word.flags & t.JAPANESE)
        in_title[root] = (
            root in title_roots
            or root in neighbours
            or bool(claimed & {"title", "brand", "colour"})
            or (japanese and soft(word, title_grams) == 1)
        )
        anywhere[root] = (
            in_title[root]
            or root in any_roots
            or bool(claimed)
            or (japanese and soft(word, any_grams) == 1)
        )
    phrases = [
        (first.root, second.root, written_together(first, second))
        for (first, one_denied), (second, two_denied) in pairwise(
            zip(words, stream.denied, strict=True)
        )
        if first.root in kept
        and second.root in kept
        and not (one_denied or two_denied)
        and ((is_content(first) and is_content(second)) or not any(map(is_content, terms.values())))
    ]
    for first, second, whole in phrases:
        if whole in title_roots:
            in_title[first] = in_title[second] = anywhere[first] = anywhere[second] = True

    def idf(root: int) -> float:
        return float(stats.idf(locales, mixed(np.array([root], np.uint64)))[0])

    weight = {root: idf(root) / float(stats.greatest_idf(locales)[0]) for root in terms}
    total = max(sum(weight.values()), 1e-9)
    count = max(len(terms), 1)
    counts = Counter(word.root for word in title)
    length = len(content["title"]) / stats.title_words[table.locales[row]]
    norm = BM25_K * (1 - BM25_B + BM25_B * length)
    brand = {word.root for word in content["brand"]}
    return {
        "title_share": sum(in_title.values()) / count,
        "anywhere_share": sum(anywhere.values()) / count,
        "title_weight": sum(weight[root] * found for root, found in in_title.items()) / total,
        "soft_title": sum(
            weight[root] * (1.0 if in_title[root] else soft(word, title_grams))
            for root, word in terms.items()
        )
        / total,
        "bm25_title": sum(
            idf(root) * tf * (BM25_K + 1) / (tf + norm)
            for root in terms
            if (tf := max(min(counts[root], p.MOST_COUNTED), in_title[root]))
        ),
        "phrases_found": sum(whole in title_roots or whole in neighbours for _, _, whole in phrases)
        / max(len(phrases), 1),
        "brand_words_found": len(brand & set(terms)) / max(len(brand), 1),
        "query_terms": min(len(terms), 15),
        "denies": float(any(stream.denied) or any(word.denies for word in words)),
    }


@st.composite
def wordy_pairs(draw: st.DrawFn) -> Pairs:
    """Pairs over few words, so that they repeat, neighbour, deny and serve one another."""
    few = (
        "lamp lamps lawn mower lawnmower red 64 gb 64gb case for without zeon , 防水 完全防水 犬用 "
        "non nonlamp 1 000"
    )
    text = st.lists(st.sampled_from(few.split()), max_size=8).map(" ".join)
    rows = st.fixed_dictionaries(
        {"product_id": st.just("P"), "locale": st.sampled_from(["us", "jp"])}
        | dict.fromkeys(LIMITS, text)
    )
    table = Products.of(draw(st.lists(rows, min_size=1, max_size=4)))
    return Pairs.of_query(draw(text), "us", table)


@given(asked=st.one_of(pairs(min_size=1), wordy_pairs()))
@settings(max_examples=200, deadline=None)
def test_features_equal_plain_ones(asked):
    statistics = count_words(prepare_products(asked.products))
    found = features_of(asked, statistics)
    for pair, (query, product) in enumerate(zip(asked.query_rows, asked.product_rows, strict=True)):
        plain = plain_features(
            asked.queries.texts[query],
            asked.queries.locale(query),
            asked.products,
            product,
            statistics,
        )
        for name, value in plain.items():
            assert found[name][pair] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_a_telling_pair_is_read_as_a_person_would():
    found = one(
        "sony wireless headphones 64gb without microphone",
        title="Sony Wireless Headphones, 64 GB, black",
        brand="Sony",
        description="built-in microphone",
    )
    assert found["all_in_title"] == 1
    assert found["measure_agrees"] == 1
    assert found["denies"] == 1
    assert found["denied_in_body"] == 1
    assert found["denied_in_title"] == 0
    assert found["brand_words_found"] == 1
    assert found["heads_agree"] == 1  # headphones, not the number behind them


@pytest.mark.parametrize(
    ("query", "title", "locale", "agrees", "contradicted"),
    [
        ("phone 64gb", "Phone 64 GB", "us", 1, 0),
        ("phone 64gb", "Phone 128 GB", "us", 0, 1),
        ("phone 64gb", "Phone", "us", 0, 0),
        ('tv 32"', "TV 32 inches", "us", 1, 0),
        ("mueble 1,5 metros", "Mueble 1.5 m", "es", 1, 0),
        ("電池 100 枚", "電池 200枚", "jp", 0, 1),
        ("1.000 ml botella", "Botella 1000 ml", "es", 1, 0),
        ("1.000 ml botella", "Botella 1 ml", "es", 0, 1),
        ("1000ml botella", "Botella 1.000ml", "es", 1, 0),
        ("1,5 l botella", "Botella 1.5 l", "es", 1, 0),
        ("lens 1.000 mm", "Lens 1 mm", "us", 1, 0),
        ("power bank 10 000 mah", "Power bank 10000mAh", "us", 1, 0),
        ("power bank 10000mah", "Power bank 10 000mAh", "us", 1, 0),
        ("iphone 11 128 gb", "iPhone 11 128GB", "us", 1, 0),
    ],
)
def test_measures(query, title, locale, agrees, contradicted):
    found = one(query, locale, title=title)
    assert (found["measure_agrees"], found["measure_contradicted"]) == (agrees, contradicted)


@pytest.mark.parametrize(
    ("query", "title", "locale", "concept", "agrees", "contradicted"),
    [
        ("black shirt", "Shirt, Black", "us", "colour", 1, 0),
        ("black shirt", "White shirt", "us", "colour", 0, 1),
        ("camisa negra", "Camisa negro", "es", "colour", 1, 0),
        ("シャツ 黒", "シャツ ブラック", "jp", "colour", 1, 0),
        ("mens shoes", "Shoes for Women", "us", "audience", 0, 1),
        ("zapatos mujer", "Zapatos de mujeres", "es", "audience", 1, 0),
        ("leather bag", "Cotton bag", "us", "material", 0, 1),
        ("large bag", "Bag", "us", "size", 0, 0),
    ],
)
def test_concepts(query, title, locale, concept, agrees, contradicted):
    found = one(query, locale, title=title)
    assert found[f"{concept}_asked"] == 1
    assert found[f"{concept}_agrees"] == agrees
    assert found[f"{concept}_contradicted"] == contradicted


@pytest.mark.parametrize(
    ("query", "title", "locale", "violated", "confirmed"),
    [
        ("fan without light", "Ceiling fan with light", "us", 1, 0),
        ("fan without light", "Ceiling fan without light", "us", 0, 1),
        ("cola no sugar", "Sugar-free cola", "us", 0, 1),
        ("vitamina sin azúcar", "Vitamina con azucar", "es", 1, 0),
        ("vitamina sin azúcar", "Vitamina sin azúcar", "es", 0, 1),
        ("ソファー 肘掛なし", "ソファー 肘掛", "jp", 1, 0),
        ("ソファー 肘掛なし", "ソファー 肘掛 不要", "jp", 0, 1),
        ("fan light", "fan light", "us", 0, 0),
        ("non-stick pan", "Nonstick pan", "us", 0, 1),
        ("nonstick pan", "Non stick pan", "us", 0, 1),
        ("non toxic paint", "Toxic paint", "us", 1, 0),
        ("ノンアルコール ビール", "アルコール ビール", "jp", 1, 0),
    ],
)
def test_denials(query, title, locale, violated, confirmed):
    found = one(query, locale, title=title)
    assert found["denied_in_title"] == violated
    assert found["denial_confirmed"] == confirmed


@pytest.mark.parametrize(
    ("query", "title", "locale"),
    [
        ("iphone 11", "Silicone case for iPhone 11", "us"),
        ("portátil lenovo", "Funda para portátil Lenovo", "es"),
        ("犬", "犬用 ベッド", "jp"),
    ],
)
def test_an_accessory_serves_what_was_asked(query, title, locale):
    accessory, itself = one(query, locale, title=title), one(query, locale, title=query)
    assert accessory["served_weight"] == pytest.approx(1.0)
    assert accessory["all_in_title"] == 1
    assert itself["served_weight"] == 0


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("lawnmower", "Lawn mower"),
        ("lawn mower", "Lawnmower"),
        ("wi-fi router", "WiFi router"),
        ("anti mosquitos", "antimosquitos"),
        ("antimosquitos", "anti-mosquitos"),
    ],
)
def test_words_written_apart_or_together_match(query, title):
    assert one(query, title=title)["all_in_title"] == 1


def test_how_a_word_with_non_is_written_makes_no_difference():
    first, *others = (
        one(query, title=title)
        for query in ("non-stick pan", "non stick pan", "nonstick pan")
        for title in ("Non-stick pan", "Non stick pan", "Nonstick pan")
    )
    assert first["all_in_title"] == first["heads_agree"] == 1
    assert all(other == first for other in others)


def test_bm25_is_the_value_worked_out_by_hand():
    # Four titles of 2, 4, 1 and 1 words, so 2 on average; "lamp" stands in two of four products:
    # idf = ln(1 + 2.5 / 2.5) = 0.693147. Twice in the title of 4 words, with k = 1.2, b = 0.75:
    # 0.693147 · 2 · 2.2 / (2 + 1.2 · (0.25 + 0.75 · 2)) = 3.049847 / 4.1 = 0.743865.
    table = Products.of(
        [
            {"product_id": str(row), "locale": "us", "title": title}
            for row, title in enumerate(["red lamp", "lamp lamp blue desk", "sofa", "bed"])
        ]
    )
    found = features_of(Pairs.of_query("lamp", "us", table), count_words(prepare_products(table)))
    expected = [0.693147, 0.743865, 0, 0]
    np.testing.assert_allclose(found["bm25_title"], expected, atol=1e-5)
    np.testing.assert_allclose(found["bm25_anywhere"], expected, atol=1e-5)
    np.testing.assert_allclose(found["bm25_title_share"], np.divide(expected, 0.693147), atol=1e-5)


def test_a_misspelling_matches_softly_and_nonsense_does_not():
    right = one("headphones", title="Wireless headphones")
    wrong = one("headphnes", title="Wireless headphones")
    nonsense = one("xyzzyqua", title="Wireless headphones")
    assert right["soft_title"] == pytest.approx(1.0)
    assert wrong["all_in_title"] == 0
    assert wrong["soft_title"] > 0.4
    assert nonsense["soft_title"] == 0


def test_japanese_is_found_inside_a_longer_run():
    found = one("防水", "jp", title="完全防水仕様 時計")
    assert found["all_in_title"] == 1


def test_idf_is_the_plain_one_and_knows_locales():
    table = Products.of(
        [{"product_id": str(row), "locale": "us", "title": "lamp red"} for row in range(3)]
        + [{"product_id": "9", "locale": "us", "title": "sofa"}]
        + [{"product_id": "0", "locale": "es", "title": "lamp"}]
    )
    statistics = count_words(prepare_products(table))
    terms = mixed(np.array([polynomial(word)[0] for word in ("lamp", "sofa", "unseen")], np.uint64))
    us = statistics.idf(encode_locales(["us"] * 3), terms)
    assert us[0] == pytest.approx(math.log(1 + (4 - 3 + 0.5) / (3 + 0.5)))
    assert us[1] == us[2] == pytest.approx(math.log(1 + (4 - 1 + 0.5) / (1 + 0.5)))
    assert statistics.idf(encode_locales(["es"]), terms[:1])[0] != us[0]


@given(first=products(max_size=4), second=products(max_size=4), data=st.data())
@settings(max_examples=40, deadline=None)
def test_prepared_products_join_and_slice_like_products(first, second, data):
    together = concatenated_features([prepare_products(first), prepare_products(second)])
    rows = [
        {"product_id": str(row), "locale": table.locale(row), **table.texts(row)}
        for table in (first, second)
        for row in range(len(table))
    ]
    whole = prepare_products(Products.of(rows))
    assert_equal(together, whole)
    if len(whole):
        chosen = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=5)), np.int64)
        assert_equal(whole.take(chosen), prepare_products(Products.of([rows[at] for at in chosen])))


def assert_equal(found: ProductFeatures, expected: ProductFeatures) -> None:
    for name, column in vars(expected).items():
        other = getattr(found, name)
        if isinstance(column, p.Postings):
            for part in ("indptr", "hashes", "payload"):
                np.testing.assert_array_equal(getattr(other, part), getattr(column, part), name)
        else:
            np.testing.assert_array_equal(other, column, name)


def test_prepared_products_are_saved_and_loaded(tmp_path):
    features = prepare_products(tiny_products())
    save_arrays(tmp_path / "products.npz", features)
    assert_equal(load_arrays(tmp_path / "products.npz", ProductFeatures), features)
