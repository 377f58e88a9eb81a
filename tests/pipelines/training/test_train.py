import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from models.errors import (
    ConfigError,
    DataError,
    MemberError,
    ReleaseError,
    UnknownMemberKindError,
)
from models.language.tiny import write_tiny
from models.pairs import PRODUCT_FIELDS
from models.release import load_release, read_manifest
from models.release_registry import ReleaseRegistry
from models.text import fold
from models.texts import Texts
from pipelines.config import MemberConfig, TrainConfig
from pipelines.dataset.read import read_judgements
from pipelines.demo.generate import generate
from pipelines.demo.options import DemoOptions
from pipelines.predictions import read_predictions
from pipelines.publish import probe_rows, publish
from pipelines.training.run import TEST, VALIDATION, is_replaceable, read_run
from pipelines.training.sides import sides
from pipelines.training.train import train_run

CONFIG = TrainConfig(members=[MemberConfig("lexical", "lexical", {"penalties": [300.0]})])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "demo"
    generate(folder, DemoOptions(products=300))
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_run(data, folder, CONFIG)
    return folder


def query_texts(judgements, rows):
    pairs = judgements.take(rows).pairs
    return {fold(pairs.queries.texts[row]) for row in np.unique(pairs.query_rows)}


def test_every_judgement_has_one_side_and_no_query_two(data):
    judgements = read_judgements(data)
    found = sides(judgements, CONFIG)
    parts = [found.train, found.validation, found.test, found.dropped]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(judgements)))
    train, validation, test = (query_texts(judgements, rows) for rows in parts[:3])
    assert train
    assert validation
    assert test
    assert not train & validation
    assert not (train | validation) & test


def test_a_member_is_taught_by_the_training_side_alone(data, tmp_path, monkeypatch):
    seen = {}

    class Spy:
        def fit(self, train, valid, _):
            seen["train"], seen["valid"] = train, valid
            raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.training.train.make_member", lambda *_: Spy())
    with pytest.raises(KeyboardInterrupt):
        train_run(data, tmp_path / "run", CONFIG)
    judgements = read_judgements(data)
    expected = sides(judgements, CONFIG)
    for side, rows in (("train", expected.train), ("valid", expected.validation)):
        pairs = judgements.take(rows).pairs
        np.testing.assert_array_equal(seen[side].query_rows, pairs.query_rows)
        np.testing.assert_array_equal(seen[side].product_rows, pairs.product_rows)
        np.testing.assert_array_equal(seen[side].labels, pairs.labels)
    assert list(tmp_path.iterdir()) == []  # an interrupted run leaves nothing


def test_the_answers_beside_the_members_are_theirs(data, run):
    judgements = read_judgements(data)
    found = sides(judgements, CONFIG)
    _, members = read_run(run)
    ((kind, member),) = members
    assert kind == "lexical"
    for name, rows in ((VALIDATION, found.validation), (TEST, found.test)):
        side = judgements.take(rows)
        predictions = read_predictions(run / name / "lexical.parquet")
        np.testing.assert_array_equal(predictions.example_ids, side.example_ids)
        logits = member.predict_logits(side.pairs).astype(np.float64)
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(predictions.probabilities, expected, atol=1e-6)


def test_a_published_release_is_the_champion_and_carries_what_the_judge_said(data, run, tmp_path):
    registry = ReleaseRegistry(tmp_path)
    folder = publish(run, data, registry)
    assert registry.champion() == folder
    release = load_release(folder)
    judgements = read_judgements(data)
    found = sides(judgements, CONFIG)
    metrics = release.manifest.metrics
    assert metrics[VALIDATION]["pairs"] == len(found.validation)
    assert metrics[TEST]["pairs"] == len(found.test)
    labels = judgements.take(found.test).pairs.labels
    answers = release.ensemble.predict(judgements.take(found.test).pairs)
    accuracy = float((answers.argmax(axis=1) == labels).mean())
    assert metrics[TEST]["metrics"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert {probe.query for probe in release.probes} <= {
        text for text, _ in judgements.take(found.validation).pairs.texts()
    }


def test_probes_go_round_the_locales_and_labels(data):
    judgements = read_judgements(data)
    rows = probe_rows(judgements)
    pairs = judgements.take(rows).pairs
    assert len(rows) == len(set(rows.tolist()))
    kinds = set(zip(pairs.locales().tolist(), pairs.labels.tolist(), strict=True))
    every = judgements.pairs
    assert kinds == set(zip(every.locales().tolist(), every.labels.tolist(), strict=True))


def test_a_run_is_published_with_the_data_it_was_trained_on_only(data, run, tmp_path):
    other = tmp_path / "other"
    generate(other, DemoOptions(products=300, seed=8))
    registry = ReleaseRegistry(tmp_path / "registry")
    with pytest.raises(DataError, match="was trained on data with fingerprint"):
        publish(run, other, registry)
    assert registry.champion() is None


def test_a_release_that_the_service_would_refuse_is_never_the_champion(
    data, run, tmp_path, monkeypatch
):
    def refuse(folder):
        assert read_manifest(folder)
        raise ReleaseError("a probe is off")

    registry = ReleaseRegistry(tmp_path)
    monkeypatch.setattr("pipelines.publish.load_release", refuse)
    with pytest.raises(ReleaseError, match="a probe is off"):
        publish(run, data, registry)
    assert registry.champion() is None


def test_a_run_of_another_version_is_refused(run, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"config": {"seeds": 3}}))
    with pytest.raises(DataError, match="is not a run of this version"):
        read_run(tmp_path)


def test_a_product_without_any_text_is_no_probe(data):
    judgements = read_judgements(data)
    products = judgements.pairs.products
    silent_row = judgements.pairs.product_rows[probe_rows(judgements)[0]]
    texts = {
        name: Texts.of(
            "" if row == silent_row else text for row, text in enumerate(products.field(name))
        )
        for name in PRODUCT_FIELDS
    }
    pairs = replace(judgements.pairs, products=replace(products, **texts))
    found = probe_rows(replace(judgements, pairs=pairs))
    assert silent_row not in pairs.product_rows[found]


@pytest.mark.parametrize(
    "foreign",
    ["notes.txt", "members/lexical/notes.txt", "members/mine/model.npz", "test/a.parquet"],
)
def test_a_run_is_not_replaced_where_somebody_else_put_a_file(data, run, tmp_path, foreign):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    assert is_replaceable(out)
    (out / foreign).parent.mkdir(exist_ok=True)
    (out / foreign).write_text("mine")
    with pytest.raises(ConfigError, match="something else than a run"):
        train_run(data, out, CONFIG, force=True)
    assert (out / foreign).read_text() == "mine"


@pytest.mark.parametrize("record", [None, "[]", "{", '{"files": 1}'])
def test_what_does_not_list_its_files_is_no_run_to_replace(tmp_path, record):
    if record is not None:
        (tmp_path / "run.json").write_text(record)
    assert not is_replaceable(tmp_path)


def test_what_a_member_lacks_is_said_before_any_is_fitted(data, tmp_path, monkeypatch):
    def fitted(*_):
        raise AssertionError

    monkeypatch.setattr("pipelines.training.train.make_member", fitted)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    config = replace(CONFIG, members=[*CONFIG.members, MemberConfig("deep", "cross_encoder", {})])
    with pytest.raises(UnknownMemberKindError, match=r"'onnxscript' to be fitted.*\[training\]"):
        train_run(data, tmp_path / "run", config)
    assert list(tmp_path.iterdir()) == []


def test_so_is_a_backbone_that_is_not_there(data, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.training.train.make_member", None)
    deep = MemberConfig("deep", "cross_encoder", {"backbone": str(tmp_path / "absent")})
    config = replace(CONFIG, members=[*CONFIG.members, deep])
    with pytest.raises(MemberError, match="absent is no folder"):
        train_run(data, tmp_path / "run", config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["bi_encoder", "cross_encoder"])
@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        ("bert", {"text": {"max_tokens": 300}}, "max_tokens 300"),
        ("bert", {"training": {"trained_layers": 9}}, "trained_layers 9"),
        ("qwen2", {"pooling": "cls"}, "pooling cls"),
    ],
)
def test_so_is_what_a_backbone_cannot_do(
    data, tmp_path, monkeypatch, kind, architecture, options, message
):
    monkeypatch.setattr("pipelines.training.train.make_member", None)
    folder = write_tiny(tmp_path / "backbone", architecture)
    deep = MemberConfig("deep", kind, {"backbone": str(folder), **options})
    config = replace(CONFIG, members=[*CONFIG.members, deep])
    with pytest.raises(ConfigError, match=message):
        train_run(data, tmp_path / "run", config)
    assert list(tmp_path.iterdir()) == [folder]
