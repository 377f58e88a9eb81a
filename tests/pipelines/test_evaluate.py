"""Predictions files, the judged pairs of a dataset, and `esci evaluate` as a person runs it."""

import io
import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from models.errors import ConfigError, DataError, EsciError, MissingDataError
from models.judge.compare import Difference
from models.judge.judge import Slice, judge
from models.judge.resample import Estimate
from models.judge.verdict import Terms
from models.labels import LABELS, encode_labels
from pipelines.commands.evaluate import evaluate
from pipelines.dataset.layout import EXAMPLES_FILE, SOURCES_FILE
from pipelines.dataset.write import dataset_writer
from pipelines.judging.judged import MOST_SLICES, read_judged
from pipelines.judging.systems import PredictionsFile, names_of
from pipelines.judging.tables import _add_difference, tables
from pipelines.predictions import align, read_predictions, write_logits, write_predictions
from tests.models.judging import make_case

REAL = Path(__file__).resolve().parents[2] / "../shared/data/esci_real"

COLUMNS = ("example_id", "query", "query_id", "product_id", "product_locale", "esci_label", "split")
ROWS = [
    (0, "Red Shoes", 1, "A", "us", "E", "train"),
    (1, "red shoes", 2, "B", "us", "S", "train"),
    (2, "piano", 3, "A", "es", "E", "train"),
    (3, "lamp", 4, "A", "us", "E", "test"),  # its product was seen in training
    (4, "LAMP", 4, "C", "us", "I", "test"),
    (5, "lamp", 5, "A", "jp", "C", "test"),  # the same id in a locale training had not
    (6, "Lámp", 6, "D", "es", "I", "test"),  # an accent is another query
    (7, "piano", 7, "E", "us", "S", "test"),  # a text that training had
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset of eight judged pairs with every trap of the layout that the judge must know."""
    folder = tmp_path / "data"
    columns = dict(zip(COLUMNS, map(list, zip(*ROWS, strict=True)), strict=True))
    flags = {"small_version": [0] * len(ROWS), "large_version": [1] * len(ROWS)}
    with dataset_writer(folder) as writer:
        writer.append(EXAMPLES_FILE, {**columns, **flags})
        writer.append(SOURCES_FILE, {"query_id": [4, 5, 6], "source": ["other", "other", "nlqec"]})
    return folder


def write_table(path: Path, columns: dict[str, list[float]]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def plain_rows(count: int, prefix: str = "p_") -> dict[str, list[float]]:
    return {
        "example_id": list(range(count)),
        **{prefix + label: [0.4 if label == "E" else 0.2] * count for label in LABELS},
    }


class TestPredictions:
    @given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 30))
    @settings(max_examples=20)  # each writes three files down to the disk
    def test_what_is_written_is_read(self, seed, count, tmp_path_factory):
        path = tmp_path_factory.mktemp("predictions") / "p.parquet"
        rng = np.random.default_rng(seed)
        ids = rng.permutation(10**6)[:count]
        said = rng.dirichlet(np.ones(4), count).astype(np.float32).reshape(count, 4)
        write_predictions(path, ids, said)
        found = read_predictions(path)
        np.testing.assert_array_equal(found.example_ids, ids)
        np.testing.assert_allclose(found.probabilities, said, rtol=1e-5)
        for member in (None, "bert"):
            write_logits(path, ids, np.log(said + 1e-6), member)
            np.testing.assert_allclose(read_predictions(path).probabilities, said, atol=1e-5)

    def test_one_of_several_members_is_chosen_by_name(self, tmp_path):
        columns = {**plain_rows(2, "a:"), **plain_rows(2, "b:")}
        columns["b:C"] = [9.0, 9.0]
        path = write_table(tmp_path / "p.parquet", columns)
        assert read_predictions(path, "b").probabilities.argmax(axis=1).tolist() == [2, 2]
        told = r"more than one system: a:\*, b:\*; name a member \(a, b\) with --member$"
        with pytest.raises(DataError, match=told):
            read_predictions(path)
        with pytest.raises(DataError, match="no logits of member 'c'; it has those of: a, b"):
            read_predictions(path, "c")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"p_C": [0.2, 0.3, 0.2]}, r"1 rows that are no probabilities; .*example_id 1"),
            ({"p_C": [0.2, -0.2, 0.2], "p_I": [0.2, 0.6, 0.2]}, "1 rows that are no prob"),
            ({"p_S": [np.nan, 0.2, np.inf]}, r"2 rows .* not finite, the first for example_id 0"),
            ({"p_S": [None, 0.2, 0.2]}, "1 rows without p_S"),
            ({"p_S": ["x", "y", "z"]}, "p_S holds string"),
            ({"example_id": [0, 7, 7]}, "1 example ids more than once, the first is 7"),
        ],
    )
    def test_what_cannot_be_meant_is_told_with_its_row(self, tmp_path, change, message):
        path = write_table(tmp_path / "p.parquet", {**plain_rows(3), **change})
        with pytest.raises(DataError, match=message):
            read_predictions(path)

    def test_a_file_of_something_else_says_what_is_expected(self, tmp_path):
        other = write_table(tmp_path / "p.parquet", {"example_id": [1], "score": [0.5]})
        with pytest.raises(DataError, match="has columns example_id, score; write one with"):
            read_predictions(other)
        (tmp_path / "t.parquet").write_text("no parquet")
        with pytest.raises(DataError, match="cannot be read"):
            read_predictions(tmp_path / "t.parquet")
        with pytest.raises(MissingDataError, match="is not there"):
            read_predictions(tmp_path / "absent.parquet")

    def test_probabilities_and_logits_together_are_not_said_to_have_members(self, tmp_path):
        path = write_table(tmp_path / "p.parquet", {**plain_rows(2), **plain_rows(2, "l_")})
        told = r"p_\*, l_\*; keep only the columns p_\*, or keep only the columns l_\*$"
        with pytest.raises(DataError, match=told):
            read_predictions(path)

    def test_a_folder_is_called_one_and_what_it_holds_is_named(self, tmp_path):
        with pytest.raises(MissingDataError, match=r"is a folder; .* write one with columns"):
            read_predictions(tmp_path)
        (tmp_path / "test").mkdir()
        path = write_table(tmp_path / "test" / "lexical.parquet", plain_rows(1))
        for folder in (tmp_path, tmp_path / "test"):
            with pytest.raises(MissingDataError, match=f"is a folder; .* did you mean {path}"):
                read_predictions(folder)

    def test_rows_are_matched_by_id_and_other_splits_passed_over(self, tmp_path):
        path = tmp_path / "p.parquet"
        said = np.eye(4, dtype=np.float32)
        write_predictions(path, np.array([30, 10, 20, 40]), said)
        found = align(path, read_predictions(path), np.array([10, 30]), np.array([10, 20, 30, 40]))
        np.testing.assert_array_equal(found, said[[1, 0]])

    def test_missing_and_foreign_rows_are_counted(self, tmp_path):
        path = tmp_path / "p.parquet"
        write_predictions(path, np.array([1, 2, 99]), np.full((3, 4), 0.25, np.float32))
        with pytest.raises(
            DataError,
            match=r"2 of the 3 judged pairs are missing \(the first is example_id 3\); "
            r"1 of its 3 rows are of pairs that the dataset lacks \(the first is example_id 99\)"
            r".*--only-predicted",
        ):
            align(path, read_predictions(path), np.array([1, 3, 4]), np.array([1, 2, 3, 4]))
        empty = tmp_path / "empty.parquet"
        write_predictions(empty, np.empty(0, np.int64), np.empty((0, 4), np.float32))
        with pytest.raises(DataError, match=r"3 of the 3 judged pairs are missing .* name$"):
            align(empty, read_predictions(empty), np.array([1, 3, 4]), np.array([1]))


class TestJudgedSplit:
    def test_queries_are_folded_texts_and_lists_lie_in_one_locale(self, data):
        part = read_judged(data, "test", opis_by=["query"])
        assert part.example_ids.tolist() == [3, 4, 5, 6, 7]
        one, two, three, four, five = part.judged.queries.tolist()
        assert one == two == three
        assert len({one, four, five}) == 3
        lists = part.judged.lists.tolist()
        assert lists[0] == lists[1] != lists[2]
        assert part.opis_by[0].values[lists[2]] == "lamp (jp)"

    def test_a_product_is_seen_by_id_and_locale_in_rows_that_may_teach(self, data):
        part = read_judged(data, "test")
        slices = {(one.group, one.value): one.rows.tolist() for one in part.slices}
        assert slices[("product", "seen")] == [0]
        assert slices[("product", "unseen")] == [1, 2, 3, 4]
        assert slices[("locale", "us")] == [0, 1, 4]
        assert part.training_labels is not None
        # The row of "piano" is left out: its text is tested.
        assert part.training_labels.tolist() == encode_labels(["E", "S"]).tolist()

    def test_any_column_and_the_sources_group_pairs(self, data):
        part = read_judged(data, "test", by=["query_id", "source"], opis_by=["product_id"])
        slices = {(one.group, one.value): one.rows.tolist() for one in part.slices}
        assert slices[("query_id", "4")] == [0, 1]
        assert slices[("source", "other")] == [0, 1, 2]
        assert slices[("source", "(none)")] == [4]
        assert [part.opis_by[0].values[code] for code in part.opis_by[0].codes] == list("ACADE")

    def test_only_the_most_frequent_values_are_judged_and_a_note_says_so(self, tmp_path):
        rows = 3 * MOST_SLICES
        columns = {
            "example_id": list(range(rows)),
            "query": [f"q{row}" for row in range(rows)],
            "query_id": list(range(rows)),
            "product_id": ["A"] * rows,
            "product_locale": ["us"] * rows,
            "esci_label": ["E"] * rows,
            "split": ["test"] * rows,
            "brand": [str(min(row, 2 * MOST_SLICES)) for row in range(rows)],
        }
        write_table(tmp_path / EXAMPLES_FILE, columns)
        part = read_judged(tmp_path, "test", by=["brand"])
        brands = [one for one in part.slices if one.group == "brand"]
        assert len(brands) == MOST_SLICES
        assert len(brands[0].rows) == MOST_SLICES
        assert "brand has 41 values; the 20 most frequent" in part.notes[0]
        assert part.training_labels is None

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"split": "dev"}, ConfigError, "no split 'dev'; expected one of train, test, all"),
            ({"by": ["colour"]}, ConfigError, "no column 'colour' .* offers: query, locale, "),
        ],
    )
    def test_what_cannot_be_meant_lists_what_can(self, data, arguments, error, message):
        with pytest.raises(error, match=message):
            read_judged(data, **{"split": "test", **arguments})

    def test_broken_datasets_are_told(self, data, tmp_path):
        path = data / EXAMPLES_FILE
        table = pq.read_table(path)
        with pytest.raises(MissingDataError, match="expected a dataset folder"):
            read_judged(tmp_path / "absent", "test")
        pq.write_table(table.filter(pa.compute.equal(table["split"], "train")), path)
        with pytest.raises(DataError, match="no pair in split 'test'"):
            read_judged(data, "test")
        pq.write_table(pa.concat_tables([table, table]), path)
        with pytest.raises(DataError, match="repeats an example_id"):
            read_judged(data, "test")
        pq.write_table(table.drop_columns(["esci_label"]), path)
        with pytest.raises(DataError, match="no column 'esci_label'"):
            read_judged(data, "test")

    def test_a_wrong_word_is_told_with_its_file_and_row(self, data):
        path = data / EXAMPLES_FILE
        table = pq.read_table(path)
        for column, what, row in (("esci_label", "label", 6), ("product_locale", "locale", 5)):
            words = table[column].to_pylist()
            words[row] = "X"
            place = table.column_names.index(column)
            pq.write_table(table.set_column(place, column, pa.array(words)), path)
            with pytest.raises(
                DataError, match=rf"{EXAMPLES_FILE} row {row} has {what} 'X'.*esci data validate"
            ):
                read_judged(data, "test")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"query_id,source\n4,caf\xe9\n",
            b"query,origin\n4,other\n",
            b"query_id,source\nfour,other\n",
            b"query_id,source\n4,other,more\n",
        ],
        ids=["empty", "not UTF-8", "other columns", "no number", "ragged"],
    )
    def test_sources_that_cannot_be_read_are_told(self, data, content):
        (data / SOURCES_FILE).write_bytes(content)
        with pytest.raises(
            DataError, match=rf"{SOURCES_FILE} cannot be read: .*; expected CSV in UTF-8"
        ):
            read_judged(data, "test", by=["source"])

    @pytest.mark.parametrize(
        "values",
        [[{"a": 1}] * len(ROWS), [[1, 2]] * len(ROWS), [b"\xff"] * len(ROWS)],
        ids=["struct", "list", "binary"],
    )
    def test_a_column_that_names_no_groups_is_told(self, data, values):
        path = data / EXAMPLES_FILE
        pq.write_table(pq.read_table(path).append_column("odd", pa.array(values)), path)
        with pytest.raises(ConfigError, match=r"column 'odd' holds .* cannot name groups"):
            read_judged(data, "test", by=["odd"])

    def test_a_part_of_a_split_is_judged_and_what_it_holds_has_not_taught(self, data):
        part = read_judged(data, "train", only=np.array([0, 2, 3, 99]))
        assert part.example_ids.tolist() == [0, 2]
        assert part.split_pairs == 3
        assert "2 predicted of the 3 pairs of split train (66.7%)" in part.notes[0]
        # "red shoes", which row 1 asks too, is judged; what is left of the split is nothing.
        assert part.training_labels is None
        beside = read_judged(data, "train", only=np.array([2]))
        assert beside.training_labels is not None
        assert beside.training_labels.tolist() == encode_labels(["E", "S"]).tolist()
        with pytest.raises(DataError, match=r"none of the 3 pairs of split 'train' .* --split"):
            read_judged(data, "train", only=np.array([3, 4]))


class TestEvaluate:
    def test_it_saves_prints_and_draws(self, data, tmp_path, capsys):
        path = tmp_path / "system.parquet"
        write_predictions(path, np.arange(8), np.tile([0.1, 0.2, 0.3, 0.4], (8, 1)))
        out = tmp_path / "out"
        evaluate(path, data, against="majority", resamples=20, permutations=20, folder=out)
        shown = capsys.readouterr()
        for words in (
            "system: 5 pairs of 3 queries",
            "gain table esci-paper (E 1, S 0.1, C 0.01, I 0)",
            "shares of the training labels",
            "OPIS by locale: none",
            "product: unseen",
            "system less majority",
        ):
            assert words in " ".join(shown.out.split())
        saved = json.loads((out / "judge.json").read_text())
        assert saved["slices"][0]["metrics"]["accuracy"]["value"] == pytest.approx(0.4)
        assert saved["majority"]["labels_of"] == "training"
        assert (out / "judge.png").read_bytes().startswith(b"\x89PNG")

    def test_a_part_of_a_split_is_judged_when_asked_for_alone(self, data, tmp_path, capsys):
        path, wider = tmp_path / "validation.parquet", tmp_path / "wider.parquet"
        write_predictions(path, np.array([3, 4]), np.full((2, 4), 0.25))
        write_predictions(wider, np.array([2, 4, 5, 6]), np.full((4, 4), 0.25))
        with pytest.raises(DataError, match=r"or judge only .* --only-predicted, and --split"):
            evaluate(path, data)
        with pytest.raises(DataError, match=r"3 of the 3 .* --only-predicted, and --split"):
            evaluate(path, data, split="train")
        out = tmp_path / "out"
        evaluate(path, data, only_predicted=True, resamples=5, folder=out)
        assert "the 2 predicted of the 5 pairs of split test (40.0%)" in " ".join(
            capsys.readouterr().out.split()
        )
        saved = json.loads((out / "judge.json").read_text())
        assert saved["only_predicted"]
        assert (saved["data"]["pairs"], saved["data"]["judged_pairs"]) == (5, 2)
        evaluate(path, data, against=str(wider), only_predicted=True, resamples=5, folder=out)
        saved = json.loads((out / "judge.json").read_text())
        assert saved["data"]["judged_pairs"] == 1  # the one pair that both predict

    def test_the_verdict_says_which_bytes_were_judged(self, data, tmp_path):
        path, other = tmp_path / "a/test.parquet", tmp_path / "b/test.parquet"
        for one, first in ((path, 0.4), (other, 0.1)):
            said = np.tile([first, 0.2, 0.2, 0.6 - first], (8, 1))
            write_logits(one, np.arange(8), np.log(said), "bert")
        out = tmp_path / "out"
        evaluate(path, data, against=str(other), resamples=5, permutations=5, folder=out)
        saved = json.loads((out / "judge.json").read_text())
        for key, file in (("predictions", path), ("against_predictions", other)):
            digest = sha256(file.read_bytes()).hexdigest()
            assert saved[key] == {"path": str(file), "sha256": digest, "member": None}
        digest = sha256((data / EXAMPLES_FILE).read_bytes()).hexdigest()
        assert saved["data"]["examples_sha256"] == digest
        assert saved["data"]["path"] == str(data)
        assert (saved["system"], saved["against"]) == ("a/test", "b/test")

    def test_systems_are_named_as_shortly_as_tells_them_apart(self):
        def named(first, second):
            return names_of(
                PredictionsFile(Path(first[0]), first[1]),
                PredictionsFile(Path(second[0]), second[1]),
            )

        assert named(("r/a.parquet", None), ("r/b.parquet", None)) == ("a", "b")
        assert named(("r/a.parquet", "x"), ("r/a.parquet", "y")) == ("x", "y")
        assert named(("r/a.parquet", "x"), ("s/a.parquet", "x")) == ("r/a x", "s/a x")
        same = named(("1/r/a.parquet", None), ("2/r/a.parquet", None))
        assert same == ("1/r/a.parquet", "2/r/a.parquet")

    def test_each_flag_reaches_the_number_it_is_of(self, data, tmp_path):
        path, out = tmp_path / "system.parquet", tmp_path / "out"
        said = np.random.default_rng(0).dirichlet(np.ones(4), 8)
        said[:2] = [[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]]  # the substitute before the exact
        write_predictions(path, np.arange(8), said)

        def saved(**flags):
            evaluate(path, data, resamples=20, folder=out, split="all", **flags)
            return json.loads((out / "judge.json").read_text())

        plain = saved()
        script = saved(gains="esci-trec-script")
        assert script["terms"]["gain_table"]["name"] == "esci-trec-script"
        ndcg = [one["slices"][0]["metrics"]["ndcg"]["value"] for one in (plain, script)]
        assert ndcg[0] != ndcg[1]
        changed = saved(
            epsilon=0.3, opis_positives="S, E", opis_negatives="C,I", opis_far="0.05,0.5", seed=4
        )["terms"]
        assert changed["opis"]["epsilon"] == 0.3
        assert changed["opis"]["positives"] == ["E", "S"]
        assert changed["opis"]["negatives"] == ["C", "I"]
        assert changed["opis"]["false_accept_rates"] == [0.05, 0.5]
        assert changed["opis"]["distance"] == "1 - P(E) - P(S)"
        assert changed["intervals"]["seed"] == 4
        assert plain["terms"]["opis"]["epsilon"] == 0.1

    def test_without_a_folder_the_verdict_lies_beside_the_predictions(self, data, tmp_path):
        path = tmp_path / "system.parquet"
        write_predictions(path, np.arange(8), np.full((8, 4), 0.25))
        evaluate(path, data, resamples=5, as_json=True)
        assert (tmp_path / "system.judge.json").is_file()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"epsilon": 1.0},
            {"gains": "dcg"},
            {"split": "dev"},
            {"against_member": "bert"},
            {"against_member": "bert", "against": "majority"},
            {"opis_positives": "E,X"},
            {"opis_negatives": ""},
            {"opis_far": "0.1"},
            {"opis_far": "a,b"},
            {"opis_far": "0.5,0.1"},
        ],
        ids=str,
    )
    def test_wrong_flags_are_errors_of_ours(self, data, tmp_path, wrong):
        path = tmp_path / "system.parquet"
        write_predictions(path, np.arange(8), np.full((8, 4), 0.25))
        with pytest.raises(EsciError, match=r"expected|known"):
            evaluate(path, data, **wrong)

    def test_a_file_in_the_place_of_the_folder_is_told_before_anything_is_read(self, tmp_path):
        file = tmp_path / "file"
        file.write_text("")
        for folder in (file, file / "below"):
            with pytest.raises(ConfigError, match=f"{file} is a file; expected a folder"):
                evaluate(tmp_path / "absent.parquet", tmp_path, folder=folder)

    def test_the_command_prints_one_json_document(self, data, tmp_path):
        path = tmp_path / "system.parquet"
        write_logits(path, np.arange(8), np.tile([1.0, 0, 0, 0], (8, 1)), member="bert")
        command = [sys.executable, "-m", "esci", "evaluate", str(path), "--data", str(data)]
        flags = ["--resamples", "10", "--by", "source", "--opis-by", "query", "--json"]
        ran = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        document = json.loads(ran.stdout)
        assert document["slices"][0]["metrics"]["accuracy"]["value"] == pytest.approx(0.2)
        assert [one["by"] for one in document["opis"]] == ["query"]
        assert "wrote" in ran.stderr

        missing = subprocess.run(
            [*command[:-1], str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert missing.returncode == 2
        assert "expected a dataset folder" in missing.stderr


def shown(renderable) -> str:
    console = Console(width=100, color_system=None, file=io.StringIO())
    console.print(renderable)
    return " ".join(console.file.getvalue().split())


class TestTables:
    @pytest.mark.parametrize(
        ("name", "low", "high", "colour"),
        [
            ("accuracy", 0.1, 0.2, "green"),
            ("accuracy", -0.2, -0.1, "red"),
            ("log_loss", 0.1, 0.2, "red"),
            ("log_loss", -0.2, -0.1, "green"),
            ("accuracy", -0.1, 0.1, ""),
            ("accuracy", None, None, ""),
        ],
    )
    def test_green_is_the_first_system_being_better(self, name, low, high, colour):
        table = Table("", "", "", "", "")
        _add_difference(table, name, name, Difference(0.5, 0.4, Estimate(0.1, low, high), 0.5))
        cell = next(iter(table.columns[3].cells))
        assert str(cell.style) == colour

    @pytest.mark.parametrize(
        ("p", "words"), [(0.0001, "<0.001"), (0.000999, "<0.001"), (0.004, "0.004"), (1.0, "1.000")]
    )
    def test_no_chance_is_shown_as_none_at_all(self, p, words):
        table = Table("", "", "", "", "p")
        _add_difference(table, "a", "accuracy", Difference(0.5, 0.4, Estimate(0.1, 0, 1), p))
        assert list(table.columns[4].cells) == [words]

    def test_what_has_no_interval_is_shown_without_one_and_the_reader_is_told(self):
        case = make_case(3)
        one = np.flatnonzero(case.judged.queries == case.judged.queries[0])
        verdict = judge(
            case.judged,
            case.system,
            against=case.other,
            slices=[Slice("s", "one", one)],
            terms=Terms(resamples=20, permutations=20),
        )
        words = " ".join(shown(table) for table in tables(verdict))
        assert "in 1 query ‡" in words
        assert "–: no interval, for fewer than two queries" in words
        assert "‡: fewer than 10 queries" in words
        few = judge(*_part(case, one), against=case.other.restricted(one), terms=verdict.terms)
        assert f"{few.whole.metrics['accuracy'].value:.4f} – │" in shown(next(iter(tables(few))))
        plain = judge(case.judged, case.system, terms=verdict.terms)
        assert "‡" not in " ".join(shown(table) for table in tables(plain))


def _part(case, rows):
    return case.judged.restricted(rows)[0], case.system.restricted(rows)


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data/esci_real is absent")
def test_the_majority_row_of_the_real_sample_is_the_known_one(tmp_path):
    part = read_judged(REAL, "test")
    path = tmp_path / "flat.parquet"
    write_predictions(path, part.example_ids, np.full((len(part.example_ids), 4), 0.25))
    evaluate(path, REAL, resamples=20, as_json=True)
    whole = json.loads((tmp_path / "flat.judge.json").read_text())["slices"][0]
    assert whole["pairs"] == 2874
    assert whole["majority"]["accuracy"]["value"] == pytest.approx(0.580, abs=5e-4)
    assert whole["majority"]["macro_f1"]["value"] == pytest.approx(0.184, abs=5e-4)
