"""A sound dataset, and one deliberately broken copy of it per kind of trouble."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipelines.dataset.layout import (
    BEHAVIOURS_FILE,
    EXAMPLES_FILE,
    LINKS_FILE,
    PRODUCTS_FILE,
    SCHEMAS,
    SOURCES_FILE,
)

TODAY = date(2024, 6, 1)

Tables = dict[str, pa.Table]


def sound_tables() -> Tables:
    """Three locales, both splits, a product id in two locales never, every file present."""
    products = [
        ("A1", "us", "red running shoes"),
        ("A2", "us", "shoe laces"),
        ("A3", "us", "blue sandals"),
        ("B1", "es", "zapatillas de niño"),
        ("B2", "es", "cordones"),
        ("C1", "jp", "ゴジラ フィギュア"),
    ]
    pairs = [
        ("red shoes", 1, "A1", "us", "E", "train"),
        ("red shoes", 1, "A2", "us", "C", "train"),
        ("red shoes", 1, "A3", "us", "S", "train"),
        ("sandals", 2, "A3", "us", "E", "test"),
        ("sandals", 2, "A1", "us", "I", "test"),
        ("zapatillas niño", 3, "B1", "es", "E", "train"),
        ("zapatillas niño", 3, "B2", "es", "C", "train"),
        ("ゴジラ", 4, "C1", "jp", "E", "test"),
    ]
    behaviours = [
        ("red shoes", "A1", "us", "click", 3.0, date(2024, 1, 2)),
        ("red shoes", "A1", "us", "purchase", 1.0, date(2024, 1, 3)),
        ("ゴジラ", "C1", "jp", "impression", 9.0, date(2024, 6, 1)),
    ]
    links = [("A1", "A2", "us", "co_buy", 2.0), ("B1", "B2", "es", "co_view", 0.0)]
    query, query_id, product_id, locale, label, split = (list(c) for c in zip(*pairs, strict=True))
    return {
        PRODUCTS_FILE: _table(
            PRODUCTS_FILE,
            product_id=[row[0] for row in products],
            product_title=[row[2] for row in products],
            product_description=["<p>Light &amp; fast</p>", None, "", None, None, None],
            product_bullet_point=[None] * 6,
            product_brand=["Acme", None, "Acme", None, None, "東宝"],
            product_color=[None] * 6,
            product_locale=[row[1] for row in products],
        ),
        EXAMPLES_FILE: _table(
            EXAMPLES_FILE,
            example_id=list(range(8)),
            query=query,
            query_id=query_id,
            product_id=product_id,
            product_locale=locale,
            esci_label=label,
            small_version=[0, 1] * 4,
            large_version=[1] * 8,
            split=split,
        ),
        SOURCES_FILE: _table(SOURCES_FILE, query_id=[1, 2, 3, 4], source=["other"] * 4),
        BEHAVIOURS_FILE: _table(
            BEHAVIOURS_FILE,
            **dict(zip(SCHEMAS[BEHAVIOURS_FILE].names, _columns(behaviours), strict=True)),
        ),
        LINKS_FILE: _table(
            LINKS_FILE, **dict(zip(SCHEMAS[LINKS_FILE].names, _columns(links), strict=True))
        ),
    }


def write_tables(folder: Path, tables: Tables) -> Path:
    """Write the tables exactly as they are, sound or not."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        if name == SOURCES_FILE:
            pyarrow.csv.write_csv(table, folder / name)
        else:
            pq.write_table(table, folder / name)
    return folder


@dataclass(frozen=True)
class Broken:
    """A broken dataset and the one finding it must give."""

    name: str
    write: Callable[[Path], Path]
    code: str
    severity: str
    file: str
    column: str | None
    count: int
    rows: tuple[int, ...]
    value: str  # part of what is shown of the first row, or of what was found without rows
    expected: str  # part of the sentence
    mend: str  # part of the sentence
    beside: tuple[str, ...] = ()  # other findings that must follow from this trouble


def broken_datasets() -> list[Broken]:
    """Every kind of trouble, each alone."""
    beside = {
        "product_of_no_locale": ("absent_product", "unknown_product"),
        "fraction": ("column_type_castable",),
        "text_in_both_splits": ("query_text_with_several_ids",),
        "nothing_to_judge_by": ("unknown_query_id",),  # sources of the queries left out
    }
    broken = [*_broken_files(), *_broken_values(), *_broken_pairs(), *_broken_others()]
    return [replace(one, beside=beside.get(one.name, ())) for one in broken]


def _columns(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _table(name: str, **columns: list[Any]) -> pa.Table:
    return pa.table(columns, schema=SCHEMAS[name])


def _edit(file: str, cells: Mapping[tuple[int, str], Any]) -> Callable[[Path], Path]:
    """The sound dataset with some cells of one file changed; bytes become text unchecked."""

    def write(folder: Path) -> Path:
        tables = sound_tables()
        for (row, column), value in cells.items():
            tables[file] = _with_cell(tables[file], row, column, value)
        return write_tables(folder, tables)

    return write


def _with_cell(table: pa.Table, row: int, column: str, value: Any) -> pa.Table:
    place = table.schema.get_field_index(column)
    field = table.schema.field(place)
    values = table.column(place).to_pylist()
    values[row] = value
    if isinstance(value, bytes):
        raw = [v.encode() if isinstance(v, str) else v for v in values]
        array = pa.array(raw, pa.binary()).view(pa.string())
    else:
        array = pa.array(values, field.type)
    return table.set_column(place, field, array)


def _change(file: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tables = sound_tables()
        tables[file] = change(tables[file])
        return write_tables(folder, tables)

    return write


def _append(file: str, row: int, **changes: Any) -> Callable[[pa.Table], pa.Table]:
    """The table with a copy of `row`, changed, at its end."""

    def change(table: pa.Table) -> pa.Table:
        copy = table.slice(row, 1).to_pylist()[0] | changes
        return pa.concat_tables([table, pa.Table.from_pylist([copy], SCHEMAS[file])])

    return change


def _retype(column: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(column)
        return table.set_column(place, column, table.column(place).cast(kind))

    return change


def _untyped(column: str) -> Callable[[pa.Table], pa.Table]:
    """The column as writers leave it that saw nothing but nulls: without even a type."""

    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(column)
        return table.set_column(place, column, pa.nulls(len(table)))

    return change


def _truncated(folder: Path) -> Path:
    path = write_tables(folder, sound_tables()) / PRODUCTS_FILE
    path.write_bytes(path.read_bytes()[:-100])
    return folder


def _damaged(folder: Path) -> Path:
    path = write_tables(folder, sound_tables()) / EXAMPLES_FILE
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196  # the first pages; the footer stays whole
    path.write_bytes(content)
    return folder


def _pointer(folder: Path) -> Path:
    write_tables(folder, sound_tables())
    (folder / PRODUCTS_FILE).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1108857465\n"
    )
    return folder


def _not_parquet(folder: Path) -> Path:
    write_tables(folder, sound_tables())
    (folder / PRODUCTS_FILE).write_text("product_id,product_title\nA1,red shoes\n")
    return folder


def _without(file: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tables = sound_tables()
        del tables[file]
        return write_tables(folder, tables)

    return write


def _sources(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_tables(folder, sound_tables())
        (folder / SOURCES_FILE).write_bytes(content)
        return folder

    return write


def _broken_files() -> list[Broken]:
    def whole(name: str, write: Callable[[Path], Path], code: str, *rest: Any) -> Broken:
        severity, file, column, value, expected, mend = rest
        return Broken(name, write, code, severity, file, column, 1, (), value, expected, mend)

    e, p = EXAMPLES_FILE, PRODUCTS_FILE
    return [
        whole(
            "no_examples",
            _without(e),
            "missing_file",
            "error",
            e,
            None,
            "not there",
            e,
            "esci data import",
        ),
        whole(
            "no_products",
            _without(p),
            "missing_file",
            "error",
            p,
            None,
            "not there",
            p,
            "esci data demo",
        ),
        whole(
            "truncated",
            _truncated,
            "unreadable_file",
            "error",
            p,
            None,
            "cannot be read as Parquet from row 0",
            "a whole Parquet file",
            "download",
        ),
        whole(
            "damaged",
            _damaged,
            "unreadable_file",
            "error",
            e,
            None,
            "cannot be read as Parquet",
            "a whole Parquet file",
            "damaged",
        ),
        whole(
            "not_parquet",
            _not_parquet,
            "unreadable_file",
            "error",
            p,
            None,
            "magic bytes",
            "a whole Parquet file",
            "of another format",
        ),
        whole(
            "pointer",
            _pointer,
            "git_lfs_pointer",
            "error",
            p,
            None,
            "Git LFS pointer",
            "the file itself",
            "git lfs pull",
        ),
        whole(
            "no_links",
            _change(LINKS_FILE, lambda table: table.slice(0, 0)),
            "empty_optional_file",
            "note",
            LINKS_FILE,
            None,
            "no rows",
            "can do without",
            "nothing",
        ),
        whole(
            "nothing_to_judge_by",
            _change(e, lambda table: table.filter(pc.equal(table["split"], "train"))),
            "empty_split",
            "warning",
            e,
            "split",
            "no row is in test",
            "to judge by",
            "--split-test",
        ),
        whole(
            "untyped_colour",
            _change(p, _untyped("product_color")),
            "column_type_castable",
            "note",
            p,
            None,
            "null where string was expected (product_color)",
            "without loss",
            "nothing",
        ),
        whole(
            "sources_in_utf16",
            _sources("query_id,source\n1,a\n".encode("utf-16")),
            "unreadable_header",
            "error",
            SOURCES_FILE,
            None,
            "\\xff\\xfeq",
            "in UTF-8: query_id,source",
            "save the file again",
        ),
        whole(
            "sources_in_latin1",
            _sources(b"query_id,source,a\xf1o\n1,a,b\n"),
            "unreadable_header",
            "error",
            SOURCES_FILE,
            None,
            "a\\xf1o",
            "UTF-8",
            "save the file again",
        ),
        whole(
            "no_rows",
            _change(p, lambda table: table.slice(0, 0)),
            "empty_file",
            "error",
            p,
            None,
            "no rows",
            "at least one row",
            "export",
        ),
        whole(
            "no_label_column",
            _change(e, lambda table: table.drop_columns(["esci_label"])),
            "missing_column",
            "error",
            e,
            "esci_label",
            "the file has example_id, query",
            "esci_label of type string",
            "--map esci_label=",
        ),
        whole(
            "query_twice",
            _change(e, lambda table: table.append_column("split", table.column("query"))),
            "repeated_column",
            "error",
            e,
            "split",
            "2 times",
            "one column split",
            "drop",
        ),
        whole(
            "ids_as_text",
            _change(e, _retype("query_id", pa.string())),
            "column_type",
            "error",
            e,
            "query_id",
            "is string",
            "of type int64",
            "cast",
        ),
        whole(
            "castable",
            _change(
                e, lambda t: _retype("query", pa.large_string())(_retype("query_id", pa.int32())(t))
            ),
            "column_type_castable",
            "note",
            e,
            None,
            "large_string where string was expected (query); int32 where int64",
            "without loss",
            "nothing",
        ),
        whole(
            "dictionary",
            _change(p, _retype("product_title", pa.dictionary(pa.int32(), pa.string()))),
            "column_type_castable",
            "note",
            p,
            None,
            "dictionary",
            "without loss",
            "nothing",
        ),
        whole(
            "more_columns",
            _change(e, lambda t: t.append_column("mood", t.column("query"))),
            "unknown_column",
            "note",
            e,
            None,
            "mood",
            "columns of the layout",
            "nothing",
        ),
    ]


def _broken_values() -> list[Broken]:
    e, p = EXAMPLES_FILE, PRODUCTS_FILE
    title, query = "product_title", "query"

    def cell(name: str, file: str, row: int, column: str, value: Any, *rest: Any) -> Broken:
        code, severity, shown, expected, mend = rest
        write = _edit(file, {(row, column): value})
        return Broken(name, write, code, severity, file, column, 1, (row,), shown, expected, mend)

    fraction = _change(
        e,
        lambda table: _with_cell(_retype("query_id", pa.float64())(table), 2, "query_id", 1.5),
    )
    return [
        cell("null_query", e, 1, query, None, "null_value", "error", "null", "a value", "drop"),
        cell("null_id", e, 0, "query_id", None, "null_value", "error", "null", "query_id", "drop"),
        cell(
            "latin1_query",
            e,
            5,
            query,
            b"zapatillas ni\xf1o",
            "not_utf8",
            "error",
            "zapatillas ni\\xf1o",
            "UTF-8",
            "windows-1252",
        ),
        cell(
            "broken_description",
            p,
            3,
            "product_description",
            b"\xff\xfe",
            "not_utf8",
            "error",
            "\\xff\\xfe",
            "UTF-8",
            "encoding",
        ),
        cell(
            "blank_query",
            e,
            7,
            query,
            " \u200b<br>&nbsp;",
            "blank_value",
            "error",
            "<br>",
            "some text",
            "drop",
        ),
        cell("empty_id", e, 4, "product_id", "", "blank_value", "error", "“”", "some text", "fill"),
        cell(
            "label_word",
            e,
            3,
            "esci_label",
            "exact",
            "unknown_label",
            "error",
            "“exact”",
            "E, S, C, I",
            "--label-map",
        ),
        cell(
            "other_locale",
            e,
            6,
            "product_locale",
            "de",
            "unknown_locale",
            "error",
            "“de”",
            "us, es, jp",
            "--locale-map",
        ),
        cell(
            "product_of_no_locale",
            p,
            4,
            "product_locale",
            "ES",
            "unknown_locale",
            "error",
            "“ES”",
            "us, es, jp",
            "--locale-map",
        ),
        cell(
            "dev_split",
            e,
            2,
            "split",
            "dev",
            "unknown_split",
            "error",
            "“dev”",
            "train, test",
            "--split-test",
        ),
        cell(
            "version_two",
            e,
            0,
            "small_version",
            2,
            "unknown_flag",
            "error",
            "2",
            "0 or 1",
            "write 0 or 1",
        ),
        cell(
            "long_title",
            p,
            2,
            title,
            "x" * 2_001,
            "overlong_text",
            "warning",
            "(2,001 characters)",
            "at most 2,000",
            "--limit product_title=N",
        ),
        cell(
            "long_query",
            e,
            7,
            query,
            "語" * 1_001,
            "overlong_text",
            "warning",
            "(1,001 characters)",
            "at most 1,000",
            "--limit query=N",
        ),
        cell(
            "bell_in_query",
            e,
            7,
            query,
            "ゴジ\x07ラ",
            "control_character",
            "warning",
            "ゴジ\\x07ラ",
            "printable",
            "strip",
        ),
        Broken(
            "fraction",
            fraction,
            "not_an_integer",
            "error",
            e,
            "query_id",
            1,
            (2,),
            "1.5",
            "whole numbers",
            "int64",
        ),
    ]


def _broken_pairs() -> list[Broken]:
    e = EXAMPLES_FILE

    def added(name: str, row: int, changes: Mapping[str, Any], *rest: Any) -> Broken:
        code, severity, column, shown, expected, mend = rest
        write = _change(e, _append(e, row, **{"example_id": 8, **changes}))
        return Broken(name, write, code, severity, e, column, 1, (8,), shown, expected, mend)

    return [
        added(
            "same_example_id",
            2,
            {"example_id": 5, "product_id": "A2", "query": "laces", "query_id": 9},
            "repeated_example_id",
            "error",
            "example_id",
            "5; first in row 5",
            "of its own",
            "number the rows",
        ),
        added(
            "same_pair",
            0,
            {"query": " red  shoes"},
            "repeated_pair",
            "warning",
            None,
            "row 0 has E",
            "every pair once",
            "drop",
        ),
        added(
            "two_labels",
            0,
            {"esci_label": "S"},
            "conflicting_pair",
            "error",
            None,
            "“red shoes” “A1” us S; row 0 has E",
            "one label",
            "settle",
        ),
        added(
            "no_such_product",
            0,
            {"product_id": "A9"},
            "absent_product",
            "error",
            "product_id",
            "“A9” us",
            "among the products",
            "add the products",
        ),
        added(
            "product_of_other_locale",
            0,
            {"product_id": "B1"},
            "absent_product",
            "error",
            "product_id",
            "“B1” us",
            "product_locale",
            "add the products",
        ),
        added(
            "id_in_both_splits",
            3,
            {"product_id": "A2", "split": "train"},
            "query_id_in_two_splits",
            "warning",
            "query_id",
            "query_id 2 us; test row 3",
            "one side",
            "drop these training rows",
        ),
        added(
            "text_in_both_splits",
            5,
            {"query": "SANDALS", "query_id": 9},
            "query_text_in_two_splits",
            "warning",
            "query",
            "“SANDALS” query_id 9 es; test row 3 is “sandals” query_id 2 us",
            "in all locales",
            "split again",
        ),
        added(
            "id_for_two_texts",
            1,
            {"query": "laces", "product_id": "A3"},
            "query_id_with_several_texts",
            "error",
            "query_id",
            "“laces” query_id 1 us; row 0 is “red shoes”",
            "one query text",
            "id of its own",
        ),
        added(
            "id_in_two_locales",
            5,
            {"query_id": 1, "query": "red shoes"},
            "query_id_in_several_locales",
            "warning",
            "query_id",
            "query_id 1 es; row 0 is “red shoes” query_id 1 us",
            "each locale",
            "number",
        ),
        added(
            "text_with_two_ids",
            5,
            {"query": "Red Shoes", "query_id": 9},
            "query_text_with_several_ids",
            "note",
            "query",
            "query_id 9 es; row 0 is “red shoes” query_id 1 us",
            "normal",
            "nothing",
        ),
    ]


def _broken_others() -> list[Broken]:
    p, b, k, s = PRODUCTS_FILE, BEHAVIOURS_FILE, LINKS_FILE, SOURCES_FILE

    def one(name: str, write: Callable[[Path], Path], row: int, *rest: Any) -> Broken:
        code, severity, file, column, shown, expected, mend = rest
        return Broken(name, write, code, severity, file, column, 1, (row,), shown, expected, mend)

    silent = {(3, "product_title"): "<b> </b>", (3, "product_brand"): "\u200b"}
    return [
        one(
            "product_twice",
            _change(p, _append(p, 1)),
            6,
            "repeated_product",
            "error",
            p,
            None,
            "“A2” us; first in row 1",
            "once",
            "up to date",
        ),
        one(
            "untitled",
            _edit(p, {(2, "product_title"): " "}),
            2,
            "product_without_title",
            "warning",
            p,
            "product_title",
            "product “A3”: title “ ”",
            "a title",
            "fill",
        ),
        one(
            "silent",
            _edit(p, silent),
            3,
            "product_without_text",
            "error",
            p,
            "product_title",
            "product “B1”: title “<b> </b>”",
            "at least a title",
            "drop the product",
        ),
        one(
            "id_in_two_locales",
            _change(p, _append(p, 0, product_locale="es")),
            6,
            "product_id_in_several_locales",
            "note",
            p,
            "product_id",
            "“A1” es; row 0 has us",
            "keyed by",
            "different products",
        ),
        one(
            "unknown_behaviour",
            _edit(b, {(1, "product_id"): "A7"}),
            1,
            "unknown_product",
            "warning",
            b,
            "product_id",
            "“A7” us",
            "catalogue",
            "leave such rows out",
        ),
        one(
            "unknown_link",
            _edit(k, {(0, "product_id_b"): "B1"}),
            0,
            "unknown_product",
            "warning",
            k,
            "product_id_b",
            "“B1” us",
            "catalogue",
            "leave such rows out",
        ),
        one(
            "nan_weight",
            _edit(b, {(0, "weight"): float("nan")}),
            0,
            "bad_weight",
            "error",
            b,
            "weight",
            "nan",
            "finite",
            "drop",
        ),
        one(
            "negative_weight",
            _edit(k, {(1, "weight"): -1.0}),
            1,
            "bad_weight",
            "error",
            k,
            "weight",
            "-1.0",
            "zero or more",
            "drop",
        ),
        one(
            "linked_with_itself",
            _edit(k, {(0, "product_id_b"): "A1"}),
            0,
            "self_link",
            "warning",
            k,
            None,
            "“A1”",
            "two different",
            "drop",
        ),
        one(
            "no_relation",
            _edit(b, {(2, "relation"): ""}),
            2,
            "blank_value",
            "error",
            b,
            "relation",
            "“”",
            "some text",
            "fill",
        ),
        one(
            "no_date",
            _edit(b, {(1, "date"): None}),
            1,
            "missing_date",
            "warning",
            b,
            "date",
            "null",
            "the day",
            "fill",
        ),
        one(
            "tomorrow",
            _edit(b, {(1, "date"): date(2024, 6, 2)}),
            1,
            "future_date",
            "warning",
            b,
            "date",
            "2024-06-02",
            "up to 2024-06-01",
            "time zone",
        ),
        one(
            "unjudged_source",
            _sources(b"query_id,source\n1,a\n77,b\n"),
            1,
            "unknown_query_id",
            "warning",
            s,
            "query_id",
            "77",
            "examples file",
            "version",
        ),
        one(
            "source_twice",
            _sources(b"query_id,source\n1,NA\n2,null\n1,b\n"),  # a source may be absent
            2,
            "repeated_source",
            "warning",
            s,
            "query_id",
            "1; first in row 0",
            "once",
            "keep the row",
        ),
        one(
            "source_of_nothing",
            _sources(b"query_id,source\n1,a\nNA,b\n"),
            1,
            "null_value",
            "error",
            s,
            "query_id",
            "null",
            "a value",
            "drop",
        ),
        one(
            "source_id",
            _sources(b"query_id,source\n1,a\n2,b\nx3,c\n"),
            2,
            "not_an_integer",
            "error",
            s,
            "query_id",
            "“x3”",
            "whole numbers",
            "int64",
        ),
        one(
            "source_fields",
            _sources(b"query_id,source\n1,a\n2,b,c\n3,d\n"),
            1,
            "unreadable_row",
            "error",
            s,
            None,
            "“2,b,c”",
            "2 fields",
            "quote",
        ),
        one(
            "source_bytes",
            _sources(b"query_id,source\n1,a\n2,\xe9t\xe9\n"),
            1,
            "not_utf8",
            "error",
            s,
            "source",
            "\\xe9t\\xe9",
            "UTF-8",
            "encoding",
        ),
    ]
