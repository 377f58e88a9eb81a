"""Validation: every kind of trouble is found, counted, located and explained, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ConfigError, MissingDataError
from models.text import fold, normalise
from pipelines.dataset.checks.columns import Column, ColumnBuilder, disagreeing, first_rows, tuples
from pipelines.dataset.checks.folding import blank, fold_all, normalise_all
from pipelines.dataset.checks.report import Report
from pipelines.dataset.checks.table import CHECKS, SEVERITIES
from pipelines.dataset.layout import EXAMPLES_FILE, PRODUCTS_FILE
from pipelines.dataset.validate import ValidateOptions, count_rows, validate
from tests.pipelines.broken_datasets import (
    TODAY,
    Broken,
    broken_datasets,
    sound_tables,
    write_tables,
)

ROOT = Path(__file__).parents[2]
REAL = ROOT / ".." / "shared" / "data" / "esci_real"
BROKEN = broken_datasets()


def check(folder: Path, **options: object) -> Report:
    return validate(folder, ValidateOptions(today=TODAY, **options))


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "esci", "data", "validate", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sound_dataset_gives_no_finding_at_all(tmp_path):
    report = check(write_tables(tmp_path, sound_tables()))
    assert report.findings == ()
    assert report.exit_code == 0
    assert report.rows[EXAMPLES_FILE] == 8


@pytest.mark.parametrize("broken", BROKEN, ids=lambda one: one.name)
def test_a_broken_dataset_gives_its_finding_and_no_other(broken: Broken, tmp_path):
    report = check(broken.write(tmp_path))

    assert sorted(finding.code for finding in report.findings) == sorted(
        [broken.code, *broken.beside]
    )
    finding = next(one for one in report.findings if one.code == broken.code)
    assert finding.severity == broken.severity
    assert (finding.file, finding.column) == (broken.file, broken.column)
    assert finding.count == broken.count
    assert tuple(sample.row for sample in finding.rows) == broken.rows
    assert broken.value in (finding.rows[0].value if broken.rows else finding.found)
    assert broken.expected in finding.expected
    assert broken.mend in finding.mend
    assert "{" not in finding.found + finding.expected + finding.mend
    assert report.exit_code == {"error": 2, "warning": 1, "note": 0}[broken.severity]


def test_every_check_of_the_table_has_a_broken_dataset():
    assert {broken.code for broken in BROKEN} == set(CHECKS)
    assert all(check.severity in SEVERITIES for check in CHECKS.values())


def test_troubles_are_counted_in_full_and_shown_in_part_across_batches(tmp_path):
    tables = sound_tables()
    many = pa.concat_tables([tables[EXAMPLES_FILE]] * 10_000)
    labels = ["X" if row > 40_000 and row % 1_000 == 999 else "E" for row in range(len(many))]
    place = many.schema.get_field_index("esci_label")
    many = many.set_column(place, many.schema.field(place), pa.array(labels))
    tables[EXAMPLES_FILE] = many.set_column(0, many.schema.field(0), pa.array(range(len(many))))
    report = check(write_tables(tmp_path, tables), examples=3)

    by_code = {finding.code: finding for finding in report.findings}
    assert by_code["unknown_label"].count == 40
    assert [sample.row for sample in by_code["unknown_label"].rows] == [40_999, 41_999, 42_999]
    # A row in trouble already is not reported again as a repeated pair.
    assert by_code["repeated_pair"].count == 80_000 - 40 - 8
    assert by_code.keys() == {"unknown_label", "repeated_pair"}


def test_a_product_without_title_is_found_in_a_later_batch(tmp_path):
    tables = sound_tables()
    sound = tables[PRODUCTS_FILE]
    more = [sound.slice(0, 1).to_pylist()[0] | {"product_id": f"M{n}"} for n in range(40_000)]
    more[-1] |= {"product_title": None}
    tables[PRODUCTS_FILE] = pa.concat_tables([sound, pa.Table.from_pylist(more, sound.schema)])
    (finding,) = check(write_tables(tmp_path, tables)).findings
    assert finding.code == "product_without_title"
    assert [(sample.row, sample.value) for sample in finding.rows] == [
        (40_005, "product “M39999”: title null")
    ]


def test_several_troubles_are_told_gravest_first(tmp_path):
    tables = sound_tables()
    examples = tables[EXAMPLES_FILE].to_pylist()
    examples[0]["esci_label"] = "Z"
    examples[1]["product_id"] = "A9"
    examples[2]["query"] = "x" * 1_500
    examples.append(examples[5] | {"example_id": 8})
    tables[EXAMPLES_FILE] = pa.Table.from_pylist(examples, tables[EXAMPLES_FILE].schema)
    found = [(one.severity, one.code) for one in check(write_tables(tmp_path, tables)).findings]
    assert found == [
        ("error", "unknown_label"),
        ("error", "absent_product"),
        ("error", "query_id_with_several_texts"),
        ("warning", "overlong_text"),
        ("warning", "repeated_pair"),
    ]


def test_strict_makes_errors_of_warnings_and_leaves_notes(tmp_path):
    by_name = {broken.name: broken for broken in BROKEN}
    warned = check(by_name["same_pair"].write(tmp_path / "warned"), strict=True)
    noted = check(by_name["castable"].write(tmp_path / "noted"), strict=True)
    assert (warned.findings[0].severity, warned.exit_code) == ("error", 2)
    assert (noted.findings[0].severity, noted.exit_code) == ("note", 0)


def test_limits_can_be_moved_and_only_for_columns_that_have_one(tmp_path):
    folder = next(one for one in BROKEN if one.name == "long_title").write(tmp_path)
    assert check(folder, limits={"product_title": 2_001}).findings == ()
    assert check(folder, limits={"product_title": 10}).findings[0].count == 3
    with pytest.raises(ConfigError, match=r"a limit for 'title'.*product_title"):
        ValidateOptions(limits={"title": 3})


def test_the_official_trap_points_at_the_training_rows(tmp_path):
    """Query 79706 ("piano") stands in both splits of the official large version."""
    tables = sound_tables()
    rows = tables[EXAMPLES_FILE].to_pylist()
    piano = {"query": "piano", "query_id": 79706, "product_locale": "us", "esci_label": "E"}
    rows += [rows[0] | piano | {"product_id": p, "split": "test"} for p in ("A1", "A2")]
    rows += [rows[0] | piano | {"product_id": "A3", "split": "train"}]
    rows = [row | {"example_id": number} for number, row in enumerate(rows)]
    tables[EXAMPLES_FILE] = pa.Table.from_pylist(rows, tables[EXAMPLES_FILE].schema)
    (finding,) = check(write_tables(tmp_path, tables)).findings
    assert (finding.code, finding.count) == ("query_id_in_two_splits", 1)
    assert finding.rows[0].row == 10
    assert "79706" in finding.rows[0].value


def test_samples_show_as_many_queries_as_they_can(tmp_path):
    tables = sound_tables()
    rows = tables[EXAMPLES_FILE].to_pylist()
    rows += [rows[3] | {"split": "train", "product_id": "A2"}] * 3
    rows += [rows[7] | {"split": "train"}]
    rows = [row | {"example_id": number} for number, row in enumerate(rows)]
    tables[EXAMPLES_FILE] = pa.Table.from_pylist(rows, tables[EXAMPLES_FILE].schema)
    report = check(write_tables(tmp_path, tables), examples=2)
    leak = next(one for one in report.findings if one.code == "query_id_in_two_splits")
    assert leak.count == 4
    assert [sample.row for sample in leak.rows] == [8, 11]


def test_a_damaged_catalogue_does_not_make_orphans_of_all_pairs(tmp_path):
    folder = write_tables(tmp_path, sound_tables())
    content = bytearray((folder / PRODUCTS_FILE).read_bytes())
    content[4:100] = b"\xff" * 96
    (folder / PRODUCTS_FILE).write_bytes(content)
    assert [one.code for one in check(folder).findings] == ["unreadable_file"]


def test_rows_before_the_damage_are_still_checked(tmp_path):
    tables = sound_tables()
    folder = write_tables(tmp_path, tables)
    examples = pa.concat_tables([tables[EXAMPLES_FILE]] * 5_000).combine_chunks()
    labels = pa.array(["E"] * 7 + ["Q"] * (len(examples) - 7))
    place = examples.schema.get_field_index("esci_label")
    path = folder / EXAMPLES_FILE
    with pq.ParquetWriter(path, examples.schema, use_dictionary=False) as writer:
        writer.write_table(examples.set_column(place, examples.schema.field(place), labels))
        writer.write_table(examples)
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 30] = b"\xff" * 30
    path.write_bytes(content)
    report = check(folder)
    by_code = {one.code: one for one in report.findings}
    read = report.rows[EXAMPLES_FILE]
    assert 0 < read <= 40_000
    assert f"from row {read:,} on" in by_code["unreadable_file"].found
    assert by_code["unknown_label"].rows[0].row == 7
    assert by_code["unknown_label"].count == read - 7


def test_progress_counts_every_row_once(tmp_path):
    folder = write_tables(tmp_path, sound_tables())
    ticks: list[int] = []
    validate(folder, ValidateOptions(today=TODAY), lambda units=1: ticks.append(units))
    assert sum(ticks) == count_rows(folder) == 8 + 6 + 3 + 2


def test_a_folder_that_is_not_there_is_an_error_with_a_way_out(tmp_path):
    with pytest.raises(MissingDataError, match=r"nowhere is not a folder.*esci data demo"):
        check(tmp_path / "nowhere")


class TestCommand:
    @pytest.mark.parametrize(
        ("name", "code"), [("castable", 0), ("same_pair", 1), ("two_labels", 2), ("truncated", 2)]
    )
    def test_the_exit_code_is_the_verdict(self, name, code, tmp_path):
        broken = next(one for one in BROKEN if one.name == name)
        done = run_command(str(broken.write(tmp_path)))
        assert done.returncode == code, done.stderr
        assert broken.code in done.stdout
        assert broken.expected in " ".join(done.stdout.split())
        assert "Traceback" not in done.stderr

    def test_json_carries_the_whole_report(self, tmp_path):
        broken = next(one for one in BROKEN if one.name == "two_labels")
        done = run_command(str(broken.write(tmp_path)), "--json", "--examples", "1")
        report = json.loads(done.stdout)
        assert done.returncode == report["exit_code"] == 2
        assert report["verdict"].startswith("not fit for use: 1 error")
        (finding,) = [one for one in report["findings"] if one["code"] == broken.code]
        assert (finding["count"], finding["rows"][0]["row"]) == (1, 8)
        assert finding["mend"]

    def test_strict_and_limit_reach_the_checks(self, tmp_path):
        broken = next(one for one in BROKEN if one.name == "long_title")
        folder = str(broken.write(tmp_path))
        assert run_command(folder, "--strict").returncode == 2
        assert run_command(folder, "--limit", "product_title=3000").returncode == 0
        wrong = run_command(folder, "--limit", "product_title")
        assert wrong.returncode == 2
        assert "expected COLUMN=N" in wrong.stderr

    def test_what_the_data_hold_cannot_colour_the_terminal(self, tmp_path):
        tables = sound_tables()
        rows = tables[EXAMPLES_FILE].to_pylist()
        rows[0]["esci_label"] = "[red]\x1b[31mX[/red]"
        tables[EXAMPLES_FILE] = pa.Table.from_pylist(rows, tables[EXAMPLES_FILE].schema)
        done = run_command(str(write_tables(tmp_path, tables)))
        assert "\x1b" not in done.stdout
        assert "[red]\\x1b[31mX[/red]" in done.stdout

    def test_the_real_data_are_sound(self):
        if not REAL.is_dir():
            pytest.skip("the shared data are not on this machine")
        done = run_command(str(REAL), "--json")
        report = json.loads(done.stdout)
        assert done.returncode == 0, report
        assert report["rows"] == {PRODUCTS_FILE: 11_930, EXAMPLES_FILE: 13_115}
        by_code = {one["code"]: one["count"] for one in report["findings"]}
        assert by_code["query_text_with_several_ids"] == 27
        assert by_code["product_id_in_several_locales"] == 31


anything = st.text(st.characters(codec="utf-8"), max_size=30)
awkward = st.text(
    st.sampled_from(" \t\x00\x1f\x7f\xa0\u3000\u200baAİẞñﬁ①<>b/&;ltgm#3"), max_size=20
)
texts = st.lists(st.one_of(st.none(), anything, awkward), max_size=12)


class TestWholeColumns:
    """What works on whole columns says what the plain functions say of each text."""

    @given(texts)
    def test_normalise_and_fold(self, some):
        array = pa.array(some, pa.large_string())
        assert normalise_all(array).to_pylist() == [
            None if text is None else normalise(text) for text in some
        ]
        assert fold_all(array).to_pylist() == [
            None if text is None else fold(text) for text in some
        ]

    @given(texts)
    def test_blank(self, some):
        found = blank(pa.array(some, pa.large_string()))
        assert found.tolist() == [not normalise(text or "") for text in some]

    @given(st.lists(st.lists(st.one_of(st.none(), st.sampled_from("abc")), min_size=1), min_size=1))
    def test_a_column_built_in_batches_is_the_column(self, batches):
        builder = ColumnBuilder()
        for batch in batches:
            builder.append(Column.of(pa.array(batch, pa.large_string())))
        whole = builder.build()
        flat = [value for batch in batches for value in batch]
        assert [whole.value(row) for row in range(len(flat))] == flat
        assert len(set(whole.values.to_pylist())) == len(whole.values)

    @given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 2)), max_size=30))
    def test_groups(self, rows):
        groups = np.array([group for group, _ in rows], np.int32)
        values = np.array([value for _, value in rows], np.int32)
        joint = tuples(groups, values)
        assert all(
            (joint[a] == joint[b]) == (rows[a] == rows[b])
            for a in range(len(rows))
            for b in range(len(rows))
            if min(rows[a]) >= 0 and min(rows[b]) >= 0
        )
        assert [code >= 0 for code in joint] == [min(row) >= 0 for row in rows]
        named = [group for group, _ in rows]
        expected = [named.index(g) if g >= 0 else row for row, g in enumerate(named)]
        assert first_rows(groups).tolist() == expected
        first_value: dict[int, int] = {}
        for group, value in rows:
            if group >= 0 and value >= 0:
                first_value.setdefault(group, value)
        differing = [
            row
            for row, (group, value) in enumerate(rows)
            if group >= 0 and value >= 0 and value != first_value[group]
        ]
        assert disagreeing(groups, values)[0].tolist() == differing
