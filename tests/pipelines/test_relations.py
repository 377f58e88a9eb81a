"""Behaviours and links come back as they were written, over the products that were given."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import DataError
from models.locales import LOCALES
from models.pairs import Products
from models.surroundings import NO_DAY, Behaviours, Links
from pipelines.dataset.checks import columns as checked_columns
from pipelines.dataset.layout import BEHAVIOURS_FILE, LINKS_FILE, SCHEMAS
from pipelines.dataset.relations import read_behaviours, read_links

EPOCH = date(1970, 1, 1)
PRODUCTS = Products.of(
    [
        {"product_id": "B", "locale": "us"},
        {"product_id": "A", "locale": "jp"},
        {"product_id": "A", "locale": "us"},
        {"product_id": "ñ", "locale": "es"},
    ]
)
BEHAVIOURS = [
    ("shoe", "A", "us", "click", 2.5, date(2024, 2, 29)),
    ("shoe", "A", "jp", "click", 1.0, date(1969, 12, 31)),
    ("shoe", "B", "us", "gift", 0.0, None),
    ("靴", "A", "jp", "purchase", 4.0, date(2024, 1, 1)),
    ("shoe", "B", "jp", "click", 1.0, date(2024, 1, 1)),  # sold in us alone
    ("zapato", "ñ", "es", "impression", 9.0, date(2024, 1, 1)),
    ("never", "Z", "us", "click", 1.0, date(2024, 1, 1)),  # nowhere
]
UNKNOWN = {4, 6}
LINKS = [
    ("A", "B", "us", "co_buy", 2.0),
    ("B", "A", "us", "co_view", 1.0),
    ("A", "B", "jp", "co_buy", 1.0),
    ("ñ", "ñ", "es", "same_set", 3.0),
]


def write(folder: Path, name: str, rows: list[tuple[Any, ...]], **options: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    schema = SCHEMAS[name]
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    table = pa.table(dict(zip(schema.names, map(list, columns), strict=True)), schema=schema)
    pq.write_table(table, folder / name, **options)
    return folder


def told(found: Behaviours, products: Products = PRODUCTS) -> list[tuple[Any, ...]]:
    """The rows as they are in the file."""
    return [
        (
            found.queries.texts[query],
            products.ids[product],
            products.locale(product),
            found.relation_names[relation],
            weight,
            None if day == NO_DAY else date.fromordinal(EPOCH.toordinal() + day),
        )
        for query, product, relation, weight, day in zip(
            found.query_rows.tolist(),
            found.product_rows.tolist(),
            found.relations.tolist(),
            found.weights.tolist(),
            found.days.tolist(),
            strict=True,
        )
    ]


def told_links(found: Links) -> list[tuple[Any, ...]]:
    return [
        (PRODUCTS.ids[a], PRODUCTS.ids[b], PRODUCTS.locale(a), found.relation_names[name], weight)
        for a, b, name, weight in zip(
            found.product_rows_a.tolist(),
            found.product_rows_b.tolist(),
            found.relations.tolist(),
            found.weights.tolist(),
            strict=True,
        )
    ]


def test_behaviours_of_known_products_come_back_as_written(tmp_path):
    found = read_behaviours(write(tmp_path, BEHAVIOURS_FILE, BEHAVIOURS), PRODUCTS)
    assert told(found) == [row for at, row in enumerate(BEHAVIOURS) if at not in UNKNOWN]
    assert (found.dropped, found.present) == (2, True)
    # The locale of a query is that of its products, and no query is there twice or unused.
    assert (found.queries.locales[found.query_rows] == PRODUCTS.locales[found.product_rows]).all()
    queries = list(zip(found.queries.texts, found.queries.locales.tolist(), strict=True))
    assert len(set(queries)) == len(queries) == 4
    assert sorted(set(found.query_rows.tolist())) == list(range(4))
    assert found.relation_names[-1] == "gift"
    kinds = found.query_rows, found.product_rows, found.relations, found.weights, found.days
    assert [column.dtype for column in kinds] == [
        np.int32, np.int32, np.int16, np.float32, np.int32,
    ]  # fmt: skip


def test_an_id_in_two_locales_is_two_products(tmp_path):
    found = read_behaviours(write(tmp_path, BEHAVIOURS_FILE, BEHAVIOURS[:2]), PRODUCTS)
    assert found.product_rows.tolist() == [2, 1]
    assert found.query_rows[0] != found.query_rows[1]


def test_a_behaviour_without_a_date_has_the_day_that_is_none(tmp_path):
    found = read_behaviours(write(tmp_path, BEHAVIOURS_FILE, BEHAVIOURS), PRODUCTS)
    assert found.days[:3].tolist() == [19_782, -1, NO_DAY]


def test_relations_and_locales_keep_a_part(tmp_path):
    write(tmp_path, BEHAVIOURS_FILE, BEHAVIOURS)
    found = read_behaviours(tmp_path, PRODUCTS, relations=("purchase", "click", "never seen"))
    assert told(found) == [BEHAVIOURS[at] for at in (0, 1, 3)]
    assert found.relation_names == ("purchase", "click", "never seen")
    assert found.relations.tolist() == [1, 1, 0]
    assert found.dropped == 2
    found = read_behaviours(tmp_path, PRODUCTS, locales=["es", "jp"])
    assert told(found) == [BEHAVIOURS[at] for at in (1, 3, 5)]
    assert found.dropped == 1
    assert len(read_behaviours(tmp_path, PRODUCTS, locales=[])) == 0
    assert len(read_behaviours(tmp_path, PRODUCTS, relations=[])) == 0


def test_links_between_known_products_come_back_as_written(tmp_path):
    write(tmp_path, LINKS_FILE, LINKS)
    found = read_links(tmp_path, PRODUCTS)
    assert told_links(found) == [LINKS[at] for at in (0, 1, 3)]
    assert (found.dropped, found.present) == (1, True)
    found = read_links(tmp_path, PRODUCTS, relations=["co_buy"], locales=["us"])
    assert told_links(found) == LINKS[:1]
    assert (found.dropped, found.relation_names) == (0, ("co_buy",))


@pytest.mark.parametrize("present", [True, False])
def test_an_empty_file_and_none_are_empty_and_told_apart(tmp_path, present):
    if present:
        write(tmp_path, BEHAVIOURS_FILE, [])
        write(tmp_path, LINKS_FILE, [])
    for found in (read_behaviours(tmp_path, PRODUCTS), read_links(tmp_path, PRODUCTS)):
        assert (len(found), found.dropped, found.present) == (0, 0, present)
    assert len(read_behaviours(tmp_path, PRODUCTS).queries) == 0


def test_without_products_every_row_is_dropped(tmp_path):
    write(tmp_path, BEHAVIOURS_FILE, BEHAVIOURS)
    found = read_behaviours(tmp_path, Products.of([]))
    assert (len(found), found.dropped) == (0, len(BEHAVIOURS))


@pytest.mark.parametrize(
    ("place", "value", "trouble"),
    [
        (0, None, "row 3 has no query"),
        (1, None, "row 3 has no product_id"),
        (2, "de", "holds locale 'de'; expected one of us, es, jp"),
        (3, None, "row 3 has no relation"),
        (4, None, "row 3 has no weight"),
        (4, -1.0, "row 3 has weight -1.0"),
        (4, float("nan"), "row 3 has weight nan"),
    ],
)
def test_rows_that_mean_nothing_are_refused(tmp_path, place, value, trouble):
    broken = list(BEHAVIOURS[3])
    broken[place] = value
    rows = [*BEHAVIOURS[:3], tuple(broken), *BEHAVIOURS[4:]]
    write(tmp_path, BEHAVIOURS_FILE, rows, row_group_size=2)
    with pytest.raises(DataError, match=rf"{trouble}.*esci data validate"):
        read_behaviours(tmp_path, PRODUCTS)


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)
row = st.tuples(
    text,
    st.sampled_from(["A", "B", "ñ", "Z"]),
    st.sampled_from(LOCALES),
    st.sampled_from(["click", "gift", "purchase"]),
    st.floats(0, 9, width=32),
    st.one_of(st.none(), st.dates(date(1960, 1, 1), date(2100, 1, 1))),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(row, max_size=12), st.integers(1, 5))
def test_any_rows_in_any_row_groups_come_back(tmp_path, monkeypatch, rows, group):
    monkeypatch.setattr(checked_columns, "_PENDING_VALUES", 2)  # merge as often as possible
    write(tmp_path, BEHAVIOURS_FILE, rows, row_group_size=group)
    sold = {(PRODUCTS.ids[at], PRODUCTS.locale(at)) for at in range(len(PRODUCTS))}
    found = read_behaviours(tmp_path, PRODUCTS)
    kept = [one for one in rows if (one[1], one[2]) in sold]
    assert told(found) == kept
    assert found.dropped == len(rows) - len(kept)
    assert len(found.queries) == len({(one[0], one[2]) for one in kept})
