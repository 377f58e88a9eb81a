import numpy as np
import pytest

from models.errors import DataError
from models.labels import LABELS, encode_labels, gains
from models.locales import encode_locales
from models.pairs import LabelledPairs, Pairs, Products, Queries


def some_products() -> Products:
    return Products.of(
        [
            {"product_id": "B1", "locale": "us", "title": "Phone case", "brand": "Zentara"},
            {"product_id": "B1", "locale": "jp", "title": "ケース"},
            {"product_id": "B2", "locale": "es", "title": "Funda", "colour": "Marrón"},
        ]
    )


def some_pairs() -> LabelledPairs:
    queries = Queries.of(["case", "ケース", "funda"], ["us", "jp", "es"])
    rows = np.array([0, 1, 2, 0], dtype=np.int32)
    pairs = Pairs(queries, some_products(), rows, np.array([0, 1, 2, 2], dtype=np.int32))
    return LabelledPairs.of(pairs, ["E", "E", "S", "I"])


def test_taking_rows_moves_no_text():
    pairs = some_pairs()
    part = pairs.take(np.array([3, 0]))
    texts = list(pairs.texts())
    assert part.queries is pairs.queries
    assert part.products is pairs.products
    assert list(part.texts()) == [texts[3], texts[0]]
    assert [LABELS[code] for code in part.labels] == ["I", "E"]


def test_compact_keeps_every_pair_and_drops_what_none_names():
    part = some_pairs().take(np.array([3, 2]))
    small = part.compact()
    assert list(small.texts()) == list(part.texts())
    assert small.fingerprints() == part.fingerprints()
    assert small.labels.tolist() == part.labels.tolist()
    assert (len(small.queries), len(small.products)) == (2, 1)


def test_a_product_is_its_id_in_its_locale():
    products = Products.of(
        [{"product_id": "B1", "locale": locale, "title": "same"} for locale in ("us", "es")]
    )
    first, second = Pairs.of_query("q", "us", products).fingerprints()
    assert first != second


@pytest.mark.parametrize("field", ["title", "description", "bullets", "brand", "colour"])
def test_a_changed_text_changes_the_fingerprint_and_mere_markup_does_not(field):
    def key(text: str) -> bytes:
        row = {"product_id": "B1", "locale": "us", field: text}
        return Pairs.of_query("q", "us", Products.of([row])).fingerprints()[0]

    assert key("red & blue") == key("<b>red</b> &amp;  blue")
    assert key("red & blue") != key("red & green")


def test_another_query_and_another_product_have_other_fingerprints():
    def key(query: str, product_id: str) -> bytes:
        products = Products.of([{"product_id": product_id, "locale": "us", "title": "Case"}])
        return Pairs.of_query(query, "us", products).fingerprints()[0]

    assert key("red", "B1") == key(" red ", "B1")
    assert len({key("red", "B1"), key("Red", "B1"), key("blue", "B1"), key("red", "B2")}) == 4


def test_a_text_does_not_slip_into_the_next_field():
    rows = [
        {"product_id": "B1", "locale": "us", "title": "ab", "description": "c"},
        {"product_id": "B1", "locale": "us", "title": "a", "description": "bc"},
    ]
    first, second = Pairs.of_query("q", "us", Products.of(rows)).fingerprints()
    assert first != second


def test_hashes_that_are_known_go_along_with_their_products(monkeypatch):
    products, rows = some_products(), np.array([2, 0, 2])
    fresh = products.take(rows).content_hashes()
    hashes = products.content_hashes()
    assert [hashes[row] for row in rows] == fresh
    assert len(set(hashes)) == 3
    monkeypatch.setattr("models.pairs.normalise", None)  # no text is read again
    assert products.take(rows).content_hashes() == fresh
    assert products.take(rows).take(np.array([1])).content_hashes() == fresh[1:2]


def test_wrong_columns_are_refused_with_what_was_found():
    queries, products = Queries.of(["q"], ["us"]), some_products()
    one = np.zeros(1, dtype=np.int32)
    with pytest.raises(DataError, match="query 1, product 2"):
        Pairs(queries, products, one, np.zeros(2, dtype=np.int32))
    with pytest.raises(DataError, match="the product of row 0 is 3; expected 0 to 2"):
        Pairs(queries, products, one, np.array([3], dtype=np.int32))
    with pytest.raises(DataError, match="comes as float64; expected whole numbers"):
        Pairs(queries, products, np.array([0.5]), one)
    with pytest.raises(DataError, match="locale 'de'; expected one of us, es, jp"):
        encode_locales(["us", "de"])
    with pytest.raises(DataError, match="row 1 has label 'exact'"):
        encode_labels(["E", "exact"])
    with pytest.raises(DataError, match="esci-paper, esci-trec-script"):
        gains("ndcg")


def test_the_two_official_gain_tables_swap_substitute_and_complement():
    assert gains("esci-paper").tolist() == [1.0, 0.1, 0.01, 0.0]
    assert gains("esci-trec-script").tolist() == [1.0, 0.01, 0.1, 0.0]
