"""`esci consistency`: OPIS of a trained bi-encoder's cosines, as a person asks for it."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import ConfigError, DataError, ReleaseError
from models.judge.judged import Judged
from models.judge.verdict import Terms
from models.language.metric.consistency import embedding_consistency
from models.members.bi_encoder import BiEncoderMember
from pipelines.commands.consistency import consistency
from pipelines.commands.precompute import precompute
from pipelines.dataset.layout import EXAMPLES_FILE
from pipelines.dataset.read import TEST, read_judgements
from pipelines.judging.judged import read_judged
from pipelines.predictions import read_predictions
from tests.pipelines.embedding.conftest import Made

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


def test_stored_vectors_change_nothing(made, tmp_path, capsys):
    precompute(made.run, made.data, tmp_path, threads=1)
    capsys.readouterr()
    assert asked(made, capsys, vectors=tmp_path) == asked(made, capsys)
    with pytest.raises(ReleaseError, match="compute them with esci precompute"):
        asked(made, capsys, vectors=tmp_path / "absent")


def test_the_validation_queries_are_those_of_the_run(made, tmp_path, capsys):
    found = asked(made, capsys, split="validation")
    answered = read_predictions(made.run / "validation" / "bi.parquet")
    assert found["data"]["judged_pairs"] == len(answered.example_ids)
    assert any("nothing is said of the others" in note for note in found["notes"])
    with pytest.raises(ConfigError, match="only a run knows its validation queries"):
        asked(made, capsys, folder=made.member, split="validation")
    record = json.loads((made.run / "run.json").read_text())
    shutil.copytree(made.run, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "data_fingerprint": "x"}))
    with pytest.raises(DataError, match="was trained on data with fingerprint x"):
        asked(made, capsys, folder=tmp_path / "run", split="validation")


def test_two_members_are_compared_on_the_same_pairs(made, tmp_path, capsys):
    found = asked(made, capsys, against=made.registry)
    assert found["system"] == f"{made.run} bi"
    assert found["against"] == f"{made.registry} bi"
    difference = found["opis"][1]["comparison"]["opis"]
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
        ({"member": "cross"}, "expected 'cross' among"),
    ],
)
def test_what_cannot_be_meant_is_refused(made, capsys, wrong, message):
    with pytest.raises(ConfigError, match=message):
        asked(made, capsys, **wrong)
