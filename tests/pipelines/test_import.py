"""Import: the same rows give the same dataset whatever the format, and errors name the place."""

import csv
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import ConfigError, DataError, EsciError, MissingDataError
from models.folds import query_positions
from models.text import fold
from pipelines.dataset.importing import readers
from pipelines.dataset.importing.convert import Defaults
from pipelines.dataset.importing.folder import Imported, import_files
from pipelines.dataset.importing.mapping import ImportMapping, load_mapping
from pipelines.dataset.layout import (
    BEHAVIOURS_FILE,
    EXAMPLES_FILE,
    LINKS_FILE,
    PRODUCTS_FILE,
    SCHEMAS,
)
from pipelines.dataset.validate import ValidateOptions, validate

ROOT = Path(__file__).parents[2]

PRODUCTS = [
    {"sku": "A1", "name": 'Shoes, "red"', "about": "one\ntwo", "country": "US"},
    {"sku": "A2", "name": "Zapatillas de niño", "about": "", "country": "es"},
    {"sku": "A3", "name": "ゴジラ フィギュア", "about": "<b>東宝</b>", "country": "jp"},
]
JUDGED = [
    {"search_term": 'red "shoes", size 5', "sku": "A1", "judgement": "exact", "country": "US"},
    {"search_term": "zapatillas año", "sku": "A2", "judgement": "Substitute", "country": "es"},
    {"search_term": "ゴジラ", "sku": "A3", "judgement": "E", "country": "jp"},
    {"search_term": "ゴジラ", "sku": "A3", "judgement": "e", "country": "jp"},
]
MAPPING = ImportMapping(
    columns={
        "query": "search_term",
        "product_id": "sku",
        "esci_label": "judgement",
        "product_title": "name",
        "product_description": "about",
        "product_locale": "country",
    },
    labels={"exact": "E"},
    locales={"US": "us"},
)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], **dialect: Any) -> Path:
    """The rows in the format that the path's name says."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".jsonl" in path.suffixes:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            delimiter = "\t" if ".tsv" in path.suffixes else ","
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, **dialect)
            writer.writeheader()
            writer.writerows(rows)
    return path


def imported(
    folder: Path,
    paths: Mapping[str, Path],
    mapping: ImportMapping = MAPPING,
    defaults: Defaults | None = None,
    **options: bool,
) -> dict[str, Imported]:
    return import_files(paths, folder, mapping, defaults or Defaults(), **options)


def both(tmp_path: Path, suffix: str = ".csv") -> dict[str, Path]:
    return {
        "examples": write_rows(tmp_path / f"judged{suffix}", JUDGED),
        "products": write_rows(tmp_path / f"catalogue{suffix}", PRODUCTS),
    }


def rows_of(folder: Path, file: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / file).to_pylist()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".csv.gz", ".jsonl.gz"])
def test_every_format_gives_the_same_dataset(suffix, tmp_path):
    imported(tmp_path / "one", both(tmp_path, ".csv"))
    imported(tmp_path / "other", both(tmp_path, suffix))
    for file in (EXAMPLES_FILE, PRODUCTS_FILE):
        one, other = (pq.read_table(tmp_path / name / file) for name in ("one", "other"))
        assert one.equals(other)
        assert one.schema.equals(SCHEMAS[file])


def test_texts_arrive_as_they_were_and_words_in_ours(tmp_path):
    imported(tmp_path / "out", both(tmp_path))
    examples = rows_of(tmp_path / "out", EXAMPLES_FILE)
    assert [row["query"] for row in examples] == [row["search_term"] for row in JUDGED]
    assert [row["esci_label"] for row in examples] == ["E", "S", "E", "E"]
    assert [row["product_locale"] for row in examples] == ["us", "es", "jp", "jp"]
    products = rows_of(tmp_path / "out", PRODUCTS_FILE)
    assert [row["product_title"] for row in products] == [row["name"] for row in PRODUCTS]
    assert [row["product_description"] for row in products] == ["one\ntwo", None, "<b>東宝</b>"]


field_text = st.text(
    st.one_of(
        st.sampled_from('",\n\r\t ñ語'), st.characters(codec="utf-8", exclude_characters="\0")
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(field_text.filter(str.strip), min_size=1, max_size=8))
def test_any_text_survives_csv_and_jsonl(tmp_path, titles):
    rows = [{"product_id": f"P{n}", "product_title": title} for n, title in enumerate(titles)]
    judged = [{"query": "x", "product_id": "P0", "esci_label": "E"}]
    for suffix in (".csv", ".tsv", ".jsonl"):
        paths = {
            "examples": write_rows(tmp_path / f"judged{suffix}", judged),
            # A field that starts with white space is quoted by some writers and not by others.
            "products": write_rows(tmp_path / f"catalogue{suffix}", rows, **_quoting(suffix)),
        }
        imported(tmp_path / "out", paths, ImportMapping(), force=True)
        kept = [row["product_title"] for row in rows_of(tmp_path / "out", PRODUCTS_FILE)]
        assert kept == titles


def _quoting(suffix: str) -> dict[str, int]:
    return {} if suffix == ".jsonl" else {"quoting": csv.QUOTE_ALL}


class TestWhatIsMadeUp:
    def test_ids_number_rows_and_queries_by_text_and_locale(self, tmp_path):
        rows = [
            {"query": query, "product_id": "A", "esci_label": "E", "product_locale": locale}
            for query, locale in [
                ("piano", "us"),
                ("guitar", "us"),
                (" Piano ", "us"),
                ("piano", "es"),
            ]
        ]
        paths = {
            "examples": write_rows(tmp_path / "judged.csv", rows),
            "products": write_rows(
                tmp_path / "catalogue.csv", [{"product_id": "A", "product_title": "t"}]
            ),
        }
        done = imported(tmp_path / "out", paths, ImportMapping())
        examples = rows_of(tmp_path / "out", EXAMPLES_FILE)
        assert [row["example_id"] for row in examples] == [0, 1, 2, 3]
        assert [row["query_id"] for row in examples] == [0, 1, 0, 2]
        assert {(row["small_version"], row["large_version"]) for row in examples} == {(0, 1)}
        assert done["examples"].made_up.keys() == {
            "example_id",
            "query_id",
            "small_version",
            "large_version",
            "split",
        }
        assert done["products"].made_up["product_locale"] == "us everywhere"

    def test_ids_go_on_across_blocks(self, tmp_path, monkeypatch):
        monkeypatch.setattr(readers, "_BLOCK_ROWS", 3)
        monkeypatch.setattr(readers, "_BLOCK_BYTES", 60)
        rows = [
            {"query": f"query {n % 4}", "product_id": "A", "esci_label": "E"} for n in range(20)
        ]
        product = [{"product_id": "A", "product_title": "t"}]
        for suffix in (".csv", ".jsonl"):
            paths = {
                "examples": write_rows(tmp_path / f"judged{suffix}", rows),
                "products": write_rows(tmp_path / f"catalogue{suffix}", product),
            }
            imported(tmp_path / suffix, paths, ImportMapping())
            examples = rows_of(tmp_path / suffix, EXAMPLES_FILE)
            assert [row["example_id"] for row in examples] == list(range(20))
            assert [row["query_id"] for row in examples] == [n % 4 for n in range(20)]

    def test_the_split_goes_by_folded_text_as_everywhere_else(self, tmp_path):
        texts = [f"{word} {n}" for n in range(100) for word in ("Shoe", "shoe", "SHOE ")]
        rows = [{"query": text, "product_id": "A", "esci_label": "E"} for text in texts]
        paths = {
            "examples": write_rows(tmp_path / "judged.csv", rows),
            "products": write_rows(
                tmp_path / "catalogue.csv", [{"product_id": "A", "product_title": "t"}]
            ),
        }
        imported(tmp_path / "out", paths, ImportMapping(), Defaults(test_share=0.3, seed=11))
        examples = rows_of(tmp_path / "out", EXAMPLES_FILE)
        sides: dict[str, set[str]] = {}
        for row in examples:
            sides.setdefault(fold(row["query"]), set()).add(row["split"])
        assert all(len(side) == 1 for side in sides.values())
        expected = ["test" if p < 0.3 else "train" for p in query_positions(texts, 11, "test")]
        assert [row["split"] for row in examples] == expected
        assert 15 < expected.count("test") / 3 < 45

    def test_a_column_mapped_to_nothing_is_made_up(self, tmp_path):
        rows = [{"query": "x", "product_id": "A", "esci_label": "E", "query_id": "7f-3a"}]
        paths = {
            "examples": write_rows(tmp_path / "judged.csv", rows),
            "products": write_rows(
                tmp_path / "catalogue.csv", [{"product_id": "A", "product_title": "t"}]
            ),
        }
        with pytest.raises(DataError, match=r"row 0 .*'query_id': found “7f-3a”.*--map query_id="):
            imported(tmp_path / "out", paths, ImportMapping())
        imported(tmp_path / "out", paths, load_mapping(None, ["query_id="]))
        assert rows_of(tmp_path / "out", EXAMPLES_FILE)[0]["query_id"] == 0


def test_behaviours_and_links_come_along(tmp_path):
    behaviours = [
        {
            "q": "x",
            "sku": "A1",
            "relation": "click",
            "weight": "2.5",
            "when": "2024-02-29T10:00:00",
        },
        {"q": "y", "sku": "A2", "relation": "add", "weight": "1", "when": ""},
    ]
    links = [{"product_id_a": "A1", "product_id_b": "A2", "relation": "co_buy"}]
    paths = both(tmp_path) | {
        "behaviours": write_rows(tmp_path / "log.tsv", behaviours),
        "links": write_rows(tmp_path / "links.jsonl", links),
    }
    mapping = load_mapping(None, ["behaviours.query=q", "date=when"])
    mapping = ImportMapping(MAPPING.columns | mapping.columns, MAPPING.labels, MAPPING.locales)
    imported(tmp_path / "out", paths, mapping)
    logged = rows_of(tmp_path / "out", BEHAVIOURS_FILE)
    assert [row["date"] for row in logged] == [date(2024, 2, 29), None]
    assert [row["weight"] for row in logged] == [2.5, 1.0]
    assert rows_of(tmp_path / "out", LINKS_FILE)[0]["weight"] == 1.0


def test_a_number_that_is_missing_is_null_and_not_the_word_nan(tmp_path):
    path = tmp_path / "catalogue.jsonl"
    path.write_text('{"sku": "A1", "name": "Shoes", "about": NaN, "country": "us"}\n')
    paths = both(tmp_path) | {"products": path}
    imported(tmp_path / "out", paths)
    assert rows_of(tmp_path / "out", PRODUCTS_FILE)[0]["product_description"] is None


def test_what_comes_in_sound_comes_out_sound(tmp_path):
    paths = {
        "examples": write_rows(tmp_path / "judged.csv", JUDGED[:3]),
        "products": write_rows(tmp_path / "catalogue.csv", PRODUCTS),
    }
    imported(tmp_path / "out", paths)
    assert validate(tmp_path / "out", ValidateOptions()).findings == ()


class TestErrors:
    """Each names the file, the place, what was found, what was expected and what to do."""

    def refused(self, tmp_path: Path, error: type[EsciError], *parts: str, **given: Any) -> None:
        paths = both(tmp_path) | given.pop("paths", {})
        with pytest.raises(error) as caught:
            imported(tmp_path / "out", paths, given.pop("mapping", MAPPING), **given)
        for part in parts:
            assert part in str(caught.value)
        # Nothing half-written, not even a scratch folder.
        assert not (tmp_path / "out").exists()
        assert not [path for path in tmp_path.iterdir() if path.is_dir()]

    def test_unknown_labels_are_all_listed(self, tmp_path):
        words = ["exact", "maybe", "E", "nope", "maybe"]
        rows = [JUDGED[0] | {"judgement": word} for word in words]
        self.refused(
            tmp_path,
            DataError,
            "“maybe” (2 rows, the first is",
            "judged2.csv row 1",
            "“nope” (1 rows",
            "expected E, S, C, I",
            '--label-map "maybe=E"',
            paths={"examples": write_rows(tmp_path / "judged2.csv", rows)},
        )

    def test_unknown_locales_are_listed(self, tmp_path):
        rows = [row | {"country": "de"} for row in PRODUCTS]
        self.refused(
            tmp_path,
            DataError,
            "“de” (3 rows",
            "expected us, es, jp",
            "--locale-map",
            paths={"products": write_rows(tmp_path / "catalogue2.jsonl", rows)},
        )

    def test_a_mapping_to_no_column_lists_the_columns(self, tmp_path):
        self.refused(
            tmp_path,
            ConfigError,
            "query is mapped to 'searchterm'",
            "has 'search_term', 'sku', 'judgement', 'country'",
            "--map",
            mapping=ImportMapping(MAPPING.columns | {"query": "searchterm"}, MAPPING.labels),
        )

    def test_a_missing_column_lists_the_columns(self, tmp_path):
        columns = {k: v for k, v in MAPPING.columns.items() if k != "product_title"}
        self.refused(
            tmp_path,
            DataError,
            "no column for product_title; it has 'sku', 'name', 'about'",
            '--map "product_title=',
            mapping=ImportMapping(columns, MAPPING.labels, MAPPING.locales),
        )

    def test_a_row_with_too_many_fields(self, tmp_path):
        path = tmp_path / "judged2.csv"
        path.write_text("search_term,sku,judgement,country\na,A1,E,us\nb,c,A1,E,us\n")
        self.refused(
            tmp_path,
            DataError,
            "judged2.csv row 1",
            "found 5 fields, expected 4",
            "“b,c,A1,E,us”",
            "quote the fields",
            paths={"examples": path},
        )

    def test_rows_keep_their_numbers_across_blocks_and_line_breaks(self, tmp_path, monkeypatch):
        monkeypatch.setattr(readers, "_BLOCK_BYTES", 60)
        head = "search_term,sku,judgement,country\n" + '"two\nlines",A1,E,us\n' * 9
        path = tmp_path / "judged2.csv"
        path.write_text(head + "a,A1,E\n")
        self.refused(tmp_path, DataError, "judged2.csv row 9 ", paths={"examples": path})
        path.write_bytes(head.encode() + b"ni\xf1o,A1,E,us\n")
        self.refused(tmp_path, DataError, "judged2.csv row 9 ", paths={"examples": path})
        path.write_text(head + "a,A1,E,us\n" + "b" * 500 + ",A1,E,us\n")
        self.refused(
            tmp_path,
            DataError,
            "judged2.csv",
            "longer than",
            "--no-quotes",
            paths={"examples": path},
        )

    def test_a_header_that_is_not_utf8(self, tmp_path):
        path = tmp_path / "judged2.csv"
        path.write_text("search_term,sku,judgement,country\na,A1,E,us\n", encoding="utf-16")
        self.refused(
            tmp_path, DataError, "judged2.csv: the header is not UTF-8", paths={"examples": path}
        )

    def test_a_quote_that_stays_open_does_not_swallow_the_rest(self, tmp_path):
        path = tmp_path / "judged2.csv"
        path.write_text('search_term,sku,judgement,country\na,A1,E,us\nb,A1,E,"us\nc,A1,E,us\n')
        self.refused(
            tmp_path,
            DataError,
            "judged2.csv holds 1 quotes",
            "--no-quotes",
            paths={"examples": path},
        )

    def test_quotes_can_be_ordinary_characters(self, tmp_path):
        path = tmp_path / "judged2.tsv"
        path.write_text('search_term\tsku\tjudgement\tcountry\n5" disk\tA1\tE\tus\n')
        paths = both(tmp_path, ".jsonl") | {"examples": path}
        imported(tmp_path / "out", paths, quoted=False)
        assert rows_of(tmp_path / "out", EXAMPLES_FILE)[0]["query"] == '5" disk'

    def test_bytes_that_are_not_utf8(self, tmp_path):
        path = tmp_path / "judged2.csv"
        path.write_bytes(b"search_term,sku,judgement,country\na,A1,E,us\nni\xf1o,A1,E,us\n")
        self.refused(
            tmp_path,
            DataError,
            "judged2.csv row 1",
            "column 'search_term'",
            "ni\\xf1o",
            "UTF-8",
            paths={"examples": path},
        )
        path = tmp_path / "judged2.jsonl"
        path.write_bytes(b'{"search_term": "a"}\n\n{"search_term": "ni\xf1o"}\n')
        self.refused(
            tmp_path, DataError, "judged2.jsonl line 3", "\\xf1", "UTF-8", paths={"examples": path}
        )

    @pytest.mark.parametrize(
        ("line", "parts"),
        [
            ('{"search_term": ', ["line 2 is no JSON", "one object per line"]),
            ("[1, 2]", ["line 2: found “[1, 2]", "expected a JSON object"]),
            ('{"search_term": {"a": 1}}', ["line 2", "'search_term'", "expected a text"]),
            ('{"search_term": "\\ud800"}', ["line 2", "surrogate", "\\ud800"]),
            ('{"search_term": %s}' % ("7" * 5_000), ["line 2 is no JSON", "one object per line"]),
            ('{"sku": "a", "sku": "b"}', ["line 2", "key 'sku' more than once", "rename"]),
            (
                '{"search_term": "a", "judgement": "E", "country": "us", "sku": 7.0}',
                ["line 2", "found “7.0”", "expected product_id as a text or a whole number"],
            ),
        ],
    )
    def test_lines_that_are_no_rows(self, line, parts, tmp_path):
        path = tmp_path / "judged2.jsonl"
        path.write_text(json.dumps(JUDGED[0]) + "\n" + line + "\n")
        self.refused(tmp_path, DataError, "judged2.jsonl", *parts, paths={"examples": path})

    def test_csv_ids_that_have_become_floats(self, tmp_path):
        rows = [row | {"sku": f"{at}.0"} for at, row in enumerate(JUDGED)]
        path = write_rows(tmp_path / "judged2.csv", rows)
        self.refused(
            tmp_path, DataError, "judged2.csv row 0", "“0.0”", "as text", paths={"examples": path}
        )
        # One such id among others is meant so.
        paths = both(tmp_path) | {
            "examples": write_rows(path, [JUDGED[0], JUDGED[0] | {"sku": "2.0"}])
        }
        imported(tmp_path / "out", paths)
        assert rows_of(tmp_path / "out", EXAMPLES_FILE)[1]["product_id"] == "2.0"

    def test_a_key_that_comes_late(self, tmp_path, monkeypatch):
        monkeypatch.setattr(readers, "_BLOCK_ROWS", 2)
        rows = [*JUDGED[:3], JUDGED[3] | {"split": "test"}]
        self.refused(
            tmp_path,
            DataError,
            "line 4 is the first with a key 'split'",
            "first line",
            paths={"examples": write_rows(tmp_path / "judged2.jsonl", rows)},
        )

    @pytest.mark.parametrize(
        ("column", "value", "expected"),
        [
            ("weight", "much", "a finite number"),
            ("weight", "nan", "a finite number"),
            ("date", "31.12.2024", "2024-12-31"),
            ("date", "2024-02-30", "2024-12-31"),
        ],
    )
    def test_values_of_another_type(self, column, value, expected, tmp_path):
        rows = [
            {"query": "x", "product_id": "A", "relation": "click", column: good}
            for good in ({"weight": "1", "date": "2024-01-01"}[column], value)
        ]
        self.refused(
            tmp_path,
            DataError,
            "log.csv row 1",
            f"column '{column}'",
            f"“{value}”",
            expected,
            paths={"behaviours": write_rows(tmp_path / "log.csv", rows)},
        )

    def test_files_of_no_known_kind_or_absent_or_empty_or_broken(self, tmp_path):
        (tmp_path / "judged.xlsx").touch()
        (tmp_path / "empty.csv").touch()
        (tmp_path / "empty.jsonl").touch()
        (tmp_path / "twice.csv").write_text("a,b,a\n1,2,3\n")
        packed = gzip.compress(b"search_term,sku\n" + os.urandom(5_000).hex().encode())
        (tmp_path / "cut.csv.gz").write_bytes(packed[:3_000])
        for name, error, part in (
            ("judged.xlsx", ConfigError, "expected .csv, .tsv, .jsonl"),
            ("absent.csv", MissingDataError, "is not there"),
            ("empty.csv", DataError, "expected a header"),
            ("empty.jsonl", DataError, "one JSON object per line"),
            ("twice.csv", DataError, "'a' more than once"),
            ("cut.csv.gz", DataError, "cannot be read"),
        ):
            self.refused(tmp_path, error, name, part, paths={"examples": tmp_path / name})

    def test_a_folder_is_replaced_only_when_asked_and_only_a_dataset(self, tmp_path):
        paths = both(tmp_path)
        imported(tmp_path / "out", paths)
        with pytest.raises(ConfigError, match=r"holds a dataset already.*--force"):
            imported(tmp_path / "out", paths)
        imported(tmp_path / "out", paths, force=True)
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "letter.txt").write_text("dear")
        with pytest.raises(ConfigError, match=r"holds 'letter\.txt'"):
            imported(tmp_path / "home", paths, force=True)
        assert (tmp_path / "home" / "letter.txt").read_text() == "dear"

    def test_what_is_imported_is_not_replaced_by_what_it_becomes(self, tmp_path):
        paths = both(tmp_path)
        folder = tmp_path / "out"
        imported(folder, paths)
        inside = {role: path.rename(folder / path.name) for role, path in paths.items()}
        for moved in (inside, {**paths, "products": inside["products"]}):
            with pytest.raises(ConfigError, match=r"\.csv lies in .*out, which would be replaced"):
                imported(folder, moved, force=True)
        # Nor is what somebody else put there.
        with pytest.raises(ConfigError, match=r"holds 'catalogue\.csv', which is no file of a"):
            imported(folder, both(tmp_path), force=True)
        assert all(path.is_file() for path in inside.values())

    def test_a_failed_import_leaves_the_old_dataset(self, tmp_path):
        imported(tmp_path / "out", both(tmp_path))
        before = rows_of(tmp_path / "out", EXAMPLES_FILE)
        bad = write_rows(tmp_path / "bad.csv", [JUDGED[0] | {"judgement": "?"}])
        with pytest.raises(DataError):
            imported(tmp_path / "out", both(tmp_path) | {"examples": bad}, force=True)
        assert rows_of(tmp_path / "out", EXAMPLES_FILE) == before


class TestMapping:
    def test_flags_go_over_the_file(self, tmp_path):
        path = tmp_path / "mapping.toml"
        path.write_text(
            '[columns]\nquery = "q"\n"products.product_id" = "sku"\n[labels]\nexact = "E"\n'
        )
        mapping = load_mapping(path, ["query=term"], ["partly=S"], ["MX=es"])
        assert mapping == ImportMapping(
            {"query": "term", "products.product_id": "sku"},
            {"exact": "E", "partly": "S"},
            {"MX": "es"},
        )

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("[colums]\nquery = 'q'\n", "colums: unknown key"),
            ("[columns]\nqury = 'q'\n", "'qury', which is no column of the layout"),
            ("[columns]\n'shops.query' = 'q'\n", "no file is called 'shops'"),
            ("[labels]\nexact = 'X'\n", "mapped to 'X'; expected one of E, S, C, I"),
            ("[columns\n", "is not TOML"),
        ],
    )
    def test_a_file_that_cannot_be_meant(self, text, part, tmp_path):
        path = tmp_path / "mapping.toml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_mapping(path)
        assert part in str(caught.value)

    def test_a_folder_is_no_mapping(self, tmp_path):
        with pytest.raises(ConfigError, match="cannot be read: Is a directory; expected a TOML"):
            load_mapping(tmp_path)

    def test_a_header_that_begins_with_a_space_can_be_named(self, tmp_path):
        paths = both(tmp_path)
        text = paths["examples"].read_text()
        paths["examples"].write_text(text.replace("search_term", " search_term", 1))
        with pytest.raises(ConfigError, match=r"judged\.csv has ' search_term', 'sku'"):
            imported(tmp_path / "out", paths)
        flags = [f"{ours}={yours}" for ours, yours in MAPPING.columns.items()]
        named = load_mapping(None, [*flags, "query= search_term", "product_id= sku "])
        imported(
            tmp_path / "out", paths, ImportMapping(named.columns, MAPPING.labels, MAPPING.locales)
        )
        assert rows_of(tmp_path / "out", EXAMPLES_FILE)[0]["query"] == JUDGED[0]["search_term"]

    def test_a_flag_without_a_sign(self):
        with pytest.raises(ConfigError, match="as in exact=E"):
            load_mapping(None, labels=["exact"])


def test_the_command_imports_validates_and_says_what_it_made_up(tmp_path):
    paths = both(tmp_path)
    (tmp_path / "mapping.toml").write_text(
        "[columns]\n" + "".join(f"{k} = {v!r}\n" for k, v in MAPPING.columns.items())
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "esci",
            "data",
            "import",
            "--examples",
            str(paths["examples"]),
            "--products",
            str(paths["products"]),
            "--out",
            str(tmp_path / "out"),
            "--mapping",
            str(tmp_path / "mapping.toml"),
            "--label-map",
            "exact=E",
            "--locale-map",
            "US=us",
            "--split-test",
            "0",
        ],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr  # the last pair is there twice
    assert "repeated_pair" in done.stdout
    assert "usable, with care: 2 warnings" in done.stdout  # and nothing is in test
    assert "query_id: numbered by query text and locale" in done.stderr
    assert {row["split"] for row in rows_of(tmp_path / "out", EXAMPLES_FILE)} == {"train"}


def test_the_command_tells_everything_as_one_document(tmp_path):
    flags = ["--examples", "--products"]
    given = [word for pair in zip(flags, both(tmp_path).values(), strict=True) for word in pair]
    named = [f"--map={ours}={yours}" for ours, yours in MAPPING.columns.items()]
    words = ["data", "import", *given, *named, "--label-map=exact=E", "--locale-map=US=us"]
    done = subprocess.run(
        [sys.executable, "-m", "esci", *words, "--out", tmp_path / "out", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout)
    assert told["folder"] == str(tmp_path / "out")
    assert told["files"]["examples"]["rows"] == len(JUDGED)
    assert told["files"]["examples"]["made_up"]["large_version"] == "1 everywhere"
    assert told["files"]["products"]["path"] == str(tmp_path / "catalogue.csv")
    assert told["report"]["rows"][PRODUCTS_FILE] == len(PRODUCTS)
    assert done.returncode == told["report"]["exit_code"] == 1, done.stderr
