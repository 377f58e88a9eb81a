from dataclasses import replace

import numpy as np
import pytest
import torch

from models.errors import DataError
from models.folds import pair_folds
from models.language.backbones import find_backbone
from models.language.networks.cross import CrossNetwork
from models.language.networks.encoder import open_encoder
from models.language.reading.reader import Reader, TextOptions
from models.language.training import pair_classifier
from models.language.training.pair_classifier import train_on_pairs
from models.member import softmax
from models.pairs import LabelledPairs
from models.registry import make_member
from models.training.curve import Curve
from models.training.options import ClassificationOptions, TrainingOptions
from models.weights import class_weights
from models.workbench import NO_WORKBENCH, Workbench
from tests.models.training.toy import same
from tests.tiny import tiny_pairs

TRAINING = TrainingOptions(epochs=2, learning_rate=1e-3, batch_size=8)
PLAIN = ClassificationOptions()
DISTIL = ClassificationOptions(distil=3)
NOBODY = tiny_pairs().take(np.empty(0, np.int64))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    pairs = tiny_pairs()
    texts = [*pairs.queries.texts, *pairs.products.title]
    return find_backbone("tiny", tmp_path_factory.mktemp("backbone"), texts=texts)


def opened(backbone) -> tuple[CrossNetwork, Reader]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder, reader = open_encoder(backbone, TextOptions(max_tokens=48, query_tokens=16))
        return CrossNetwork(encoder, 0.1), reader


def trained(
    backbone,
    training: TrainingOptions = TRAINING,
    classification: ClassificationOptions = PLAIN,
    valid: LabelledPairs = NOBODY,
    bench: Workbench = NO_WORKBENCH,
):
    network, reader = opened(backbone)
    curve = train_on_pairs(
        network,
        reader,
        tiny_pairs(),
        valid,
        training=training,
        classification=classification,
        seed=5,
        bench=bench,
        identity="tiny",
    )
    return network, curve


def weights(network: CrossNetwork) -> dict[str, torch.Tensor]:
    return network.state_dict()


CHANGES = {
    "loss": {"loss": "bce"},
    "smoothing": {"label_smoothing": 0.1},
    "lists": {"list_weight": 0.5},
    "r-drop": {"r_drop": 1.0},
    "distil": {"distil": 3},
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_switch_of_the_loss_changes_what_is_learnt(backbone, name):
    # Lists of one length weigh the same, so one of the queries is cut short.
    network, _ = opened(backbone)
    found = []
    for classification in (PLAIN, replace(PLAIN, **CHANGES[name])):
        network, reader = opened(backbone)
        train_on_pairs(
            network,
            reader,
            tiny_pairs().take(np.arange(22)),
            NOBODY,
            training=TRAINING,
            classification=classification,
            seed=5,
            bench=NO_WORKBENCH,
            identity="tiny",
        )
        found.append(weights(network))
    assert not same(*found)


@pytest.mark.parametrize("layers", [0, 1, None])
def test_only_the_layers_asked_for_learn(backbone, layers):
    before = weights(opened(backbone)[0])
    network, curve = trained(backbone, replace(TRAINING, trained_layers=layers))
    changed = {name for name, t in weights(network).items() if not torch.equal(t, before[name])}
    assert "head.weight" in changed
    assert any("layer.1." in name for name in changed) == (layers != 0)
    assert any("layer.0." in name for name in changed) == (layers is None)
    assert any("embeddings" in name for name in changed) == (layers is None)
    assert curve.notes == ()


def test_validation_pairs_are_measured_and_never_taught(backbone):
    pairs = tiny_pairs()
    wrong = LabelledPairs(
        pairs.queries,
        pairs.products,
        pairs.query_rows,
        pairs.product_rows,
        ((pairs.labels + 1) % 4).astype(np.int8),
    )
    last = replace(TRAINING, keep_best=False)
    (one, curve), (other, _) = (trained(backbone, last, valid=v) for v in (pairs, wrong))
    assert same(weights(one), weights(other))
    assert same(weights(one), weights(trained(backbone, last)[0]))
    assert set(curve.best) == {"accuracy", "macro_f1", "weighted_f1", "log_loss", "score"}


@pytest.mark.parametrize(
    ("architecture", "pooling", "differ"),
    [
        ("xlm-roberta", "compared", True),
        ("bert", "compared", False),  # for which they always were
        ("deberta-v2", "mean", False),
    ],
)
def test_a_training_on_pairs_that_were_not_told_apart_is_another(
    tmp_path, monkeypatch, architecture, pooling, differ
):
    backbone = find_backbone(f"tiny:{architecture}", tmp_path, texts=tiny_pairs().products.title)
    encoder, reader = open_encoder(backbone, TextOptions(max_tokens=48), pooling=pooling)
    before = Reader(reader._tokenizer, replace(reader.layout, second_segment=0))
    found = []

    def watched(*given):
        found.append(given[-1])
        return Curve()

    monkeypatch.setattr(pair_classifier, "run_training", watched)
    for known in (before, reader):
        train_on_pairs(
            CrossNetwork(encoder),
            known,
            tiny_pairs(),
            NOBODY,
            training=TRAINING,
            classification=PLAIN,
            seed=5,
            bench=NO_WORKBENCH,
            identity="tiny",
        )
    assert (found[0] != found[1]) == differ


class TestDistillation:
    def test_soft_labels_are_of_networks_that_never_saw_the_query(self, backbone, monkeypatch):
        taught: list[np.ndarray] = []
        tasks = []

        class Watched(pair_classifier.PairTask):
            def __init__(self, network, texts, taught_pairs, *rest):
                super().__init__(network, texts, taught_pairs, *rest)
                taught.append(taught_pairs.rows)
                tasks.append(taught_pairs)

        monkeypatch.setattr(pair_classifier, "PairTask", Watched)
        trained(backbone, classification=DISTIL)
        pairs = tiny_pairs()
        fold_of = pair_folds(pairs, 3, 5, "distil")
        folds = sorted(set(fold_of.tolist()))
        assert len(folds) > 1
        assert len(taught) == len(folds) + 1
        for fold, rows in zip(folds, taught[:-1], strict=True):
            held = np.setdiff1d(np.arange(len(pairs)), rows)
            np.testing.assert_array_equal(held, np.flatnonzero(fold_of == fold))
            queries = pairs.query_rows
            assert not set(queries[held]) & set(queries[rows])
        # The last learns from all of them, half from the label and half from the answer.
        last = tasks[-1]
        np.testing.assert_array_equal(taught[-1], np.arange(len(pairs)))
        right = last.targets[np.arange(len(pairs)), pairs.labels]
        assert (right > 0.5).all()
        assert (right < 1).all()
        np.testing.assert_allclose(last.targets.sum(axis=1), 1, rtol=1e-5)
        for task in tasks[:-1]:
            assert set(np.unique(task.targets)) == {0.0, 1.0}

    @pytest.mark.parametrize("class_weight", ["none", 0.7])
    def test_a_teacher_of_another_kind_answers_out_of_fold(
        self, backbone, monkeypatch, class_weight
    ):
        taught = []

        class Watched(pair_classifier.PairTask):
            def __init__(self, network, texts, taught_pairs, *rest):
                super().__init__(network, texts, taught_pairs, *rest)
                taught.append(taught_pairs)

        monkeypatch.setattr(pair_classifier, "PairTask", Watched)
        pairs = tiny_pairs()
        options = replace(DISTIL, teacher="lexical", class_weight=class_weight)
        trained(backbone, classification=options, valid=pairs)
        fold_of, expected = pair_folds(pairs, 3, 5, "distil"), np.empty((len(pairs), 4), np.float32)
        for fold in np.unique(fold_of):
            others, held = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            member = make_member("lexical", "teacher", {}).fit(pairs.take(others), pairs)
            # In the priors that the network learns, which class weights move.
            odds = softmax(member.predict_logits(pairs.take(held)))
            odds = odds * class_weights(pairs.labels[others], class_weight)
            expected[held] = odds / odds.sum(axis=1, keepdims=True)
        (only,) = taught  # the network itself is trained once
        one_hot = np.eye(4, dtype=np.float32)[pairs.labels]
        np.testing.assert_allclose(only.targets, (one_hot + expected) / 2, atol=1e-6)

    def test_every_training_starts_from_the_same_weights(self, backbone, monkeypatch):
        begun = []
        run = pair_classifier.run_training

        def watched(task, *rest):
            begun.append({name: t.clone() for name, t in task.module.state_dict().items()})
            return run(task, *rest)

        monkeypatch.setattr(pair_classifier, "run_training", watched)
        trained(backbone, classification=DISTIL)
        assert len(begun) > 2
        assert all(same(begun[0], other) for other in begun[1:])

    def test_goes_on_where_it_was_interrupted(self, backbone, monkeypatch, tmp_path):
        expected, curve = trained(backbone, classification=DISTIL)
        run = pair_classifier.run_training
        calls = []

        def broken(task, *rest):
            calls.append(task)
            if len(calls) == 2:
                raise InterruptedError
            return run(task, *rest)

        monkeypatch.setattr(pair_classifier, "run_training", broken)
        with pytest.raises(InterruptedError):
            trained(backbone, classification=DISTIL, bench=Workbench(tmp_path))
        found, again = trained(backbone, classification=DISTIL, bench=Workbench(tmp_path))
        assert same(weights(found), weights(expected))
        assert again.plain() == curve.plain()

    def test_progress_rises_through_all_its_parts(self, backbone):
        told = []
        trained(backbone, classification=DISTIL, bench=Workbench(None, told.append))
        done = [standing.done for standing in told]
        assert done == sorted(done)
        assert done[-1] == told[-1].total == 4000
        assert told[-1].note.startswith("part 4 of 4: loss")

    def test_one_query_cannot_be_divided(self, backbone):
        network, reader = opened(backbone)
        with pytest.raises(DataError, match="distil"):
            train_on_pairs(
                network,
                reader,
                tiny_pairs().take(np.arange(4)),
                NOBODY,
                training=TRAINING,
                classification=DISTIL,
                seed=5,
                bench=NO_WORKBENCH,
                identity="tiny",
            )
