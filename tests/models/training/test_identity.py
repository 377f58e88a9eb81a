from dataclasses import replace

import numpy as np
import pytest

from models.language.serving.options import ServingOptions
from models.members.bi_encoder import BiEncoderMember, BiEncoderOptions
from models.members.cross_encoder import CrossEncoderMember, CrossEncoderOptions
from models.training.identity import deciding_options, training_identity
from models.training.options import ClassificationOptions, TrainingOptions
from models.typed import plain
from models.workbench import Workbench
from tests.tiny import tiny_pairs

KINDS = [CrossEncoderOptions, BiEncoderOptions]
TRAINING = TrainingOptions()
LOOSE = ServingOptions(variants=("fp32",), exact_difference=1.0, flip_rate=1.0)


def identity(options, backbone="0", train=24, kind="parrot", version=1) -> str:
    pairs = tiny_pairs()
    taught = pairs.take(np.arange(train))
    return training_identity(kind, version, plain(options), backbone, taught, pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes",
    [
        {"allow_download": True},
        {"serving": LOOSE},
        {"training": replace(TRAINING, checkpoint_seconds=7.0)},
        {"training": replace(TRAINING, cache_megabytes=7)},
    ],
)
def test_what_changes_no_weight_is_no_part_of_it(kind, changes):
    assert identity(kind(**changes)) == identity(kind())


def test_how_vectors_are_made_and_kept_is_none_either():
    changed = BiEncoderOptions(vectors="int8", product_variant="int8")
    assert identity(changed) == identity(BiEncoderOptions())


@pytest.mark.parametrize("kind", KINDS)
def test_everything_else_is(kind):
    changed = [
        {},
        {"backbone": "tiny"},
        {"seed": 8},
        {"dropout": 0.2},
        {"pooling": "last"},
        {"lora": True},
        {"training": replace(TRAINING, epochs=4)},
        {"training": replace(TRAINING, cache_precision="bf16")},
        {"classification": ClassificationOptions(r_drop=1.0)},
    ]
    found = {identity(kind(**changes)) for changes in changed}
    found |= {identity(kind(), backbone="1"), identity(kind(), train=23)}
    found |= {identity(kind(), kind="budgie"), identity(kind(), version=2)}
    assert len(found) == len(changed) + 4


def test_options_given_in_part_are_taken_as_they_are():
    assert deciding_options({"colour": "red", "serving": {}}) == {"colour": "red"}
    given = {"training": {"epochs": 2, "checkpoint_seconds": 1.0}}
    assert deciding_options(given) == {"training": {"epochs": 2}}
    assert given["training"] == {"epochs": 2, "checkpoint_seconds": 1.0}


@pytest.mark.parametrize(
    ("kind", "export", "task"),
    [
        (CrossEncoderMember, "serving.export.export_form", "training.pair_task.PairTask"),
        (BiEncoderMember, "metric.fitting.export_towers", "metric.task.BiEncoderTask"),
    ],
)
def test_a_looser_gate_takes_no_other_training(kind, export, task, tmp_path, monkeypatch):
    def refused(*_args, **_more):
        raise InterruptedError

    options = kind.Options(
        backbone="tiny",
        training=TrainingOptions(epochs=1, batch_size=8),
        serving=ServingOptions(variants=("fp32",), measure_seconds=0),
    )
    pairs = tiny_pairs()
    with monkeypatch.context() as patch:
        patch.setattr(f"models.language.{export}", refused)
        with pytest.raises(InterruptedError):
            kind("x", options).fit(pairs, pairs, Workbench(tmp_path))
    monkeypatch.setattr(f"models.language.{task}.loss", refused)
    looser = replace(options, serving=replace(LOOSE, measure_seconds=0))
    member = kind("x", looser).fit(pairs, pairs, Workbench(tmp_path))
    assert member.predict_logits(pairs).shape == (24, 4)
    with pytest.raises(InterruptedError):  # another training is taken up anew
        kind("x", replace(options, seed=8)).fit(pairs, pairs, Workbench(tmp_path))
