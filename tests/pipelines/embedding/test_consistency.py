"""`esci consistency`: OPIS of a trained bi-encoder's cosines, as a person asks for it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import ConfigError, DataError, ReleaseError
from models.files import read_json, write_json
from models.judge.judged import Judged
from models.judge.resample import Estimate
from models.judge.verdict import ClassVerdict, OpisVerdict, Terms
from models.language.metric.consistency import embedding_consistency
from models.members.bi_encoder import BiEncoderMember
from pipelines.commands.consistency import consistency
from pipelines.commands.precompute import precompute
from pipelines.dataset.layout import EXAMPLES_FILE
from pipelines.dataset.read import TEST, read_judgements
from pipelines.judging import picture
from pipelines.judging.judged import read_judged
from pipelines.predictions import read_predictions
from tests.pipelines.made import Made

QUICK = {"threads": 1, "resamples": 20, "permutations": 20}


def asked(made: Made, capsys, **flags) -> dict:
    consistency(flags.pop("folder", made.run), made.data, json=True, **QUICK, **flags)
    return json.loads(capsys.readouterr().out)


def test_it_is_opis_of_the_member_s_own_cosines(made, capsys):
    found = asked(made, capsys, opis_by=["locale", "query"])
    judgements = read_judgements(made.data)
    test = judgements.take(np.flatnonzero(judgements.splits == TEST))
    cosines = BiEncoderMember.load(made.member).similarities(test.pairs.without_labels())
    of = dict(zip(test.example_ids.tolist(), cosines, strict=True))
    part = read_judged(made.data, "test", opis_by=["locale", "query"])
    expected = embedding_consistency(
        np.array([of[at] for at in part.example_ids.tolist()]),
        Judged.of(part.judged.labels, part.judged.queries, part.judged.lists),
        part.opis_by,
        Terms(resamples=20),
    )
    assert [one["by"] for one in found["opis"]] == ["locale", "query"]
    for one, verdict in zip(found["opis"], expected, strict=True):
        assert one == json.loads(json.dumps(verdict.to_json()))
    assert found["opis"][0]["metrics"]["opis"]["value"] > 0
    assert found["data"]["judged_pairs"] == len(test)
    assert found["terms"]["opis"]["distance"] == "sqrt(2 - 2 cosine)"


def test_the_order_of_the_judgements_decides_nothing(made, tmp_path, capsys):
    shuffled = tmp_path / "data"
    shutil.copytree(made.data, shuffled)
    table = pq.read_table(shuffled / EXAMPLES_FILE)
    rows = np.random.default_rng(1).permutation(len(table))
    pq.write_table(table.take(pa.array(rows)), shuffled / EXAMPLES_FILE)
    expected = asked(made, capsys)["opis"]
    found = asked(made._replace(data=shuffled), capsys)["opis"]
    for one, other in zip(found, expected, strict=True):
        for name, metric in one["metrics"].items():
            assert metric["value"] == pytest.approx(other["metrics"][name]["value"], abs=1e-12)


def test_stored_vectors_are_looked_up_and_change_nothing(made, tmp_path, capsys, encoded):
    precompute(made.run, made.data, tmp_path, threads=1)
    capsys.readouterr()
    encoded.clear()
    found = asked(made, capsys, vectors=tmp_path)
    assert sum(encoded) == 0
    assert found == asked(made, capsys)
    assert sum(encoded) > 0
    with pytest.raises(ReleaseError, match="compute them with esci precompute"):
        asked(made, capsys, vectors=tmp_path / "absent")


def test_the_validation_queries_are_those_of_the_run(made, tmp_path, capsys):
    found = asked(made, capsys, split="validation")
    answered = read_predictions(made.run / "validation" / "bi.parquet")
    assert found["data"]["judged_pairs"] == len(answered.example_ids)
    assert any("nothing is said of the others" in note for note in found["notes"])
    with pytest.raises(ConfigError, match="only a run knows its validation queries"):
        asked(made, capsys, folder=made.member, split="validation")
    other = run_like(made, tmp_path / "run", data_fingerprint="x")
    with pytest.raises(DataError, match="was trained on data with fingerprint x"):
        asked(made, capsys, folder=other, split="validation")


def run_like(made: Made, folder: Path, **changed) -> Path:
    """The same run, with a record that says otherwise."""
    record = read_json(made.run / "run.json")
    config = {key: changed.pop(key) for key in ("seed", "validation") if key in changed}
    shutil.copytree(made.run, folder)
    write_json(folder / "run.json", record | changed | {"config": record["config"] | config})
    return folder


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"seed": 8}, ConfigError, "each learned from some that the other did not"),
        ({"validation": 0.2}, ConfigError, "each learned from some that the other did not"),
        ({"data_fingerprint": "x"}, DataError, "was trained on data with fingerprint x"),
    ],
)
def test_validation_queries_have_to_be_unseen_by_both(
    made, tmp_path, capsys, changed, error, message
):
    other = run_like(made, tmp_path / "run", **changed)
    with pytest.raises(error, match=message):
        asked(made, capsys, split="validation", against=other)
    asked(made, capsys, split="validation", against=run_like(made, tmp_path / "same"))
    with pytest.raises(ConfigError, match="only a run knows its validation queries"):
        asked(made, capsys, split="validation", against=made.registry)


def test_it_says_when_members_are_judged_on_what_they_learned_from(made, capsys):
    learned = "what members learn from"
    assert learned in " ".join(asked(made, capsys, split="train")["notes"])
    assert learned not in " ".join(asked(made, capsys)["notes"])


class Reversed(BiEncoderMember):
    """One that finds alike what the other finds unlike."""

    def similarities(self, pairs):
        return -super().similarities(pairs)

    def vectors_identity(self):
        return "reversed"


def test_two_members_are_compared_on_the_same_pairs(made, monkeypatch, capsys):
    one = asked(made, capsys)
    monkeypatch.setattr(
        "pipelines.judging.embedding.open_embedder",
        lambda trained, _: (Reversed if trained.registry else BiEncoderMember).load(made.member),
    )
    other = asked(made, capsys, folder=made.registry)
    found = asked(made, capsys, against=made.registry)
    assert found["system"] == f"{made.run} bi"
    assert found["against"] == f"{made.registry} bi"
    identity = BiEncoderMember.load(made.member).vectors_identity()
    assert found["embedding"] == {"path": str(made.run), "member": "bi", "vectors": identity}
    assert found["against_embedding"]["vectors"] == "reversed"
    for both, first, second in zip(found["opis"], one["opis"], other["opis"], strict=True):
        values = [verdict["metrics"]["opis"]["value"] for verdict in (first, second)]
        assert values[0] != values[1]
        difference = both["comparison"]["opis"]["difference"]["value"]
        assert difference == pytest.approx(values[0] - values[1], abs=1e-12)


def test_a_member_is_as_consistent_as_itself(made, capsys):
    difference = asked(made, capsys, against=made.registry)["opis"][1]["comparison"]["opis"]
    assert (difference["difference"]["value"], difference["p"]) == (0, 1)
    consistency(made.run, made.data, against=made.member, **QUICK)
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{made.run} bi less" in shown
    assert "OPIS locale" in shown


def test_it_shows_tables_and_leaves_numbers_and_a_picture(made, tmp_path, capsys):
    out = tmp_path / "seen"
    consistency(made.run, made.data, to=out, opis_by=["locale"], **QUICK)
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("bi: ", "OPIS by locale", "cosine from", "20 resamples of queries (seed 0)"):
        assert words in shown
    saved = json.loads((out / "consistency.json").read_text())
    assert saved == asked(made, capsys, opis_by=["locale"])
    assert (out / "consistency.png").read_bytes().startswith(b"\x89PNG")


def opis_of(classes: list[str]) -> OpisVerdict:
    curves = {name: [0.5, 0.6] for name in ("mean", "worst", "rest", "p10", "p90")}
    shown = [ClassVerdict(one, 3, 3, 0.5, 0.1, [0.5, 0.6]) for one in classes]
    metrics = {"opis": Estimate(0.1, 0.1, 0.1)}
    return OpisVerdict(
        "$x_", None, len(classes), 0, 0, 0, metrics, (0.1, 0.2), [0.1, 0.2], curves, shown, None
    )


def test_a_class_that_the_font_cannot_write_is_drawn_by_its_place(monkeypatch, tmp_path):
    legends = []
    monkeypatch.setattr(
        "pipelines.judging.picture._save",
        lambda figure, path, save=picture._save: (
            save(figure, path),
            legends.append([one.get_text() for one in figure.axes[0].get_legend().get_texts()]),
        ),
    )
    # A warning of the library is an error here.
    found = opis_of(["lamp", "庭園灯", "a $5 and a $6 lamp", "_lamp"])
    picture.draw_opis([found], "ランプ $1$ bi", "cosine", tmp_path / "picture.png")
    assert legends == [["lamp", "shown[1]", r"a \$5 and a \$6 lamp", " _lamp", "mean"]]
    assert found.to_json()["shown"][1]["value"] == "庭園灯"


@pytest.mark.parametrize("theirs", ["data", "run", "release", "member"])
def test_nothing_is_left_where_all_files_are_accounted_for(made, theirs):
    before = sorted(made.data.parent.rglob("*"))
    # A release is in no way named: only what lies in it tells.
    with pytest.raises(ConfigError, match="accounted for; expected a folder beside it"):
        consistency(made.run, made.data, to=getattr(made, theirs) / "seen" / "deep", **QUICK)
    assert sorted(made.data.parent.rglob("*")) == before


def test_where_there_is_no_opis_there_is_no_picture_but_a_reason(made, tmp_path, capsys):
    out = tmp_path / "seen"
    consistency(made.run, made.data, to=out, opis_by=["split"], **QUICK)
    assert "OPIS by split: none, for 1 of 2 classes" in " ".join(capsys.readouterr().out.split())
    assert [path.name for path in out.iterdir()] == ["consistency.json"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "dev"}, "no split 'dev'; expected one of test, validation, train"),
        ({"opis_by": ["shelf"]}, "no column 'shelf' to group by"),
        ({"opis_positives": "X"}, "names 'X'"),
        ({"member": "cross"}, "expected 'cross' among members that compare vectors, as a bi"),
    ],
)
def test_what_cannot_be_meant_is_refused(made, capsys, wrong, message):
    with pytest.raises(ConfigError, match=message):
        asked(made, capsys, **wrong)
