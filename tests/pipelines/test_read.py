import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import DataError, MissingDataError
from models.labels import LABELS
from pipelines.dataset.layout import EXAMPLES_FILE, PRODUCTS_FILE, SPLITS
from pipelines.dataset.read import fingerprint, read_catalogue, read_judgements
from pipelines.dataset.write import dataset_writer

PRODUCTS = {
    "product_id": ["B1", "B1", "B2", "B3"],
    "product_title": ["Case", "ケース", "Funda <b>azul</b>", "Never judged"],
    "product_description": ["Fits N7", None, "Piel", None],
    "product_bullet_point": [None, None, "uno\ndos", None],
    "product_brand": ["Covera", None, None, None],
    "product_color": ["black", "黒", "azul", None],
    "product_locale": ["us", "jp", "es", "us"],
}
EXAMPLES = {
    "example_id": [10, 11, 12, 13, 14],
    "query": ["case", "Case ", "ケース", "funda azul", "case"],
    "query_id": [1, 2, 3, 4, 1],
    "product_id": ["B1", "B1", "B1", "B2", "B1"],
    "product_locale": ["us", "us", "jp", "es", "us"],
    "esci_label": ["E", "S", "C", "I", "E"],
    "small_version": [1, 0, 1, 0, 1],
    "large_version": [1, 1, 1, 1, 1],
    "split": ["train", "train", "test", "test", "test"],
}


@pytest.fixture
def folder(tmp_path):
    with dataset_writer(tmp_path / "data") as writer:
        writer.append(PRODUCTS_FILE, PRODUCTS)
        writer.append(EXAMPLES_FILE, EXAMPLES)
    return tmp_path / "data"


def rewrite(folder, file_name, **columns):
    table = pq.read_table(folder / file_name)
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(column))
    pq.write_table(table, folder / file_name, row_group_size=2)


def test_every_row_comes_back_as_it_was_written(folder):
    found = read_judgements(folder)
    products = [
        dict(zip(PRODUCTS, row, strict=True)) for row in zip(*PRODUCTS.values(), strict=True)
    ]
    by_key = {(row["product_id"], row["product_locale"]): row for row in products}
    for row, (query, texts) in enumerate(found.pairs.texts()):
        product_row = found.pairs.product_rows[row]
        key = (found.pairs.products.ids[product_row], found.pairs.products.locale(product_row))
        expected = by_key[key]
        assert query == EXAMPLES["query"][row]
        assert key == (EXAMPLES["product_id"][row], EXAMPLES["product_locale"][row])
        assert texts == {
            "title": expected["product_title"],
            "description": expected["product_description"] or "",
            "bullets": expected["product_bullet_point"] or "",
            "brand": expected["product_brand"] or "",
            "colour": expected["product_color"] or "",
        }
    assert [LABELS[code] for code in found.pairs.labels] == EXAMPLES["esci_label"]
    assert [SPLITS[code] for code in found.splits] == EXAMPLES["split"]
    assert found.example_ids.tolist() == EXAMPLES["example_id"]
    assert found.query_ids.tolist() == EXAMPLES["query_id"]


def test_a_product_and_a_query_are_held_once_and_only_where_named(folder):
    pairs = read_judgements(folder).pairs
    assert len(pairs.products) == 3  # B3 is judged for nobody
    assert len(pairs.queries) == 4
    assert len(read_catalogue(folder)) == 4


def test_one_id_in_two_locales_is_two_products(folder):
    pairs = read_judgements(folder).pairs
    assert pairs.products.title[pairs.product_rows[0]] == "Case"
    assert pairs.products.title[pairs.product_rows[2]] == "ケース"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"split": "train"}, [10, 11]),
        ({"split": "test"}, [12, 13, 14]),
        ({"version": "small"}, [10, 12, 14]),
        ({"locales": ["us"]}, [10, 11, 14]),
        ({"split": "test", "version": "small", "locales": ["us", "es"]}, [14]),
        ({"locales": []}, []),
    ],
)
def test_filters_keep_their_rows(folder, filters, expected):
    assert read_judgements(folder, **filters).example_ids.tolist() == expected


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_other_arrow_types_of_text_read_alike(folder, kind):
    before = list(read_judgements(folder).pairs.texts())
    rewrite(folder, EXAMPLES_FILE, query=pa.array(EXAMPLES["query"]).cast(kind))
    rewrite(folder, PRODUCTS_FILE, product_title=pa.array(PRODUCTS["product_title"]).cast(kind))
    assert list(read_judgements(folder).pairs.texts()) == before


@pytest.mark.parametrize(
    ("file_name", "columns", "message"),
    [
        (EXAMPLES_FILE, {"esci_label": [*"ESC", "exact", "E"]}, "row 3 has label 'exact'"),
        (EXAMPLES_FILE, {"product_locale": [*["us"] * 4, "de"]}, "row 4 .*'de'"),
        (EXAMPLES_FILE, {"split": ["dev", *["test"] * 4]}, "row 0 has split 'dev'"),
        (EXAMPLES_FILE, {"product_id": ["B1", "B9", "B1", "B2", "B1"]}, "row 1 names product 'B9'"),
        (EXAMPLES_FILE, {"query": ["a", "b", None, "c", "d"]}, "row 2 has no query"),
        (EXAMPLES_FILE, {"example_id": [*"abcde"]}, "column 'example_id'"),
        (PRODUCTS_FILE, {"product_locale": ["us", "jp", "es", "fr"]}, "row 3 has locale 'fr'"),
    ],
)
def test_a_wrong_row_is_named_with_what_to_do(folder, file_name, columns, message):
    rewrite(folder, file_name, **columns)
    read = read_judgements if file_name == EXAMPLES_FILE else read_catalogue
    with pytest.raises(DataError, match=message) as caught:
        read(folder)
    assert "esci data validate" in str(caught.value)


def test_the_row_named_is_that_of_the_file_and_not_of_what_a_filter_left(folder):
    rewrite(folder, EXAMPLES_FILE, esci_label=["E", "E", "E", "E", "exact"])
    with pytest.raises(DataError, match="row 4 has label 'exact'"):
        read_judgements(folder, split="test")
    assert len(read_judgements(folder, split="train")) == 2


def test_bytes_that_are_no_text_are_refused_and_never_decoded(folder):
    broken = pa.array([b"Case", b"\xff\xfe", b"Funda", b"x"]).view(pa.string())
    rewrite(folder, PRODUCTS_FILE, product_title=broken)
    with pytest.raises(DataError, match="column 'product_title'"):
        read_judgements(folder)


def test_what_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(MissingDataError, match="esci data demo"):
        read_judgements(tmp_path)
    table = pq.read_table(folder / EXAMPLES_FILE)
    pq.write_table(table.drop_columns("split"), folder / EXAMPLES_FILE)
    with pytest.raises(DataError, match="has no column 'split'; it has example_id"):
        read_judgements(folder)
    whole = (folder / PRODUCTS_FILE).read_bytes()
    (folder / PRODUCTS_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_catalogue(folder)


def test_the_fingerprint_follows_every_byte(folder):
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    rewrite(folder, PRODUCTS_FILE, product_brand=["Other", None, None, None])
    assert fingerprint(folder) != before


def test_taking_judgements_keeps_their_columns_together(folder):
    found = read_judgements(folder).take(np.array([4, 2]))
    assert found.example_ids.tolist() == [14, 12]
    assert [query for query, _ in found.pairs.texts()] == ["case", "ケース"]


def test_a_failed_writer_leaves_nothing(tmp_path):
    def write_half():
        with dataset_writer(tmp_path / "data") as writer:
            writer.append(PRODUCTS_FILE, PRODUCTS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []
