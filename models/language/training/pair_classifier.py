"""Trains a cross-encoder on labelled pairs, where asked from soft labels of its own making."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.folds import pair_folds
from models.labels import LABELS
from models.language.networks.cross import CrossNetwork
from models.language.reading.reader import Reader
from models.language.training.activations import EncodedTexts
from models.language.training.pair_task import Judged, PairTask, Taught, answer
from models.member import Logits, Probabilities, softmax
from models.pairs import LabelledPairs
from models.registry import make_member
from models.training.classification import targets_of, weights_of
from models.training.curve import Curve
from models.training.loop import train as run_training
from models.training.options import ClassificationOptions, TrainingOptions
from models.training.steps.average import copy_weights
from models.training.steps.precision import autocast_of
from models.weights import class_weights
from models.workbench import Standing, Workbench

_PARTS = 1000  # of a training, when several follow each other


def train_on_pairs(
    network: CrossNetwork,
    reader: Reader,
    train: LabelledPairs,
    valid: LabelledPairs,
    *,
    training: TrainingOptions,
    classification: ClassificationOptions,
    seed: int,
    bench: Workbench,
    identity: str,
) -> Curve:
    """Train `network` in place; returns the curve of the last training, with notes.

    With `classification.distil` the training pairs are divided into folds by query, a network (or
    a member of the kind `teacher`) is trained without each fold and answers it, and the last
    training learns from a mean of those answers and the judged labels (the recipe of the ESCI
    winners). Every training starts from the weights that `network` came with.

    A teacher is fitted with the options of its kind, in every process of a launch by itself, and
    again after a kill: only kinds that take seconds are let through.
    """
    if network.encoder.pooling == "compared" and not network.encoder.embeds_segments:
        # Not decided by backbone and options alone: such pairs were once read as one text.
        identity = f"{identity}:{reader.layout.second_segment}"
    sequences = reader.read_pairs(train, valid)
    texts = EncodedTexts.prepare(network.encoder, sequences, reader.layout.pad_id, training, bench)
    judged = Judged(len(train) + np.arange(len(valid)), valid.labels)
    queries = np.unique(train.query_rows, return_inverse=True)[1]

    def attempt(
        rows: NDArray[np.int64], soft: Probabilities | None, place: Workbench, name: str
    ) -> Curve:
        labels = train.labels[rows]
        taught = Taught(
            rows,
            targets_of(labels, classification, soft),
            weights_of(labels, queries[rows], classification),
        )
        task = PairTask(network, texts, taught, judged, classification, training.batch_size)
        return run_training(task, training, seed, place, f"{identity}:{name}")

    everything = np.arange(len(train))
    if not classification.distil:
        curve = attempt(everything, None, bench, "all")
        return _noted(curve, [texts.note])
    folds = classification.distil
    begin = {
        name: parameter.detach().clone()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }

    def own(fold: int, others: NDArray[np.int64], held: NDArray[np.int64]) -> Logits:
        """By this network, which ends as it began."""
        attempt(others, None, _part(bench, fold, folds + 1, f"fold-{fold}"), f"fold-{fold}")
        device = network.head.weight.device
        with autocast_of(training.precision, device):
            logits = answer(network, texts, held, device)
        copy_weights(dict(network.named_parameters()), begin)
        return logits

    def teachers(fold: int, others: NDArray[np.int64], held: NDArray[np.int64]) -> Logits:
        """By a member of the teacher's kind, as if it had weighed labels like this network.

        It was fitted without weights of labels; left so, its answers would undo ours, which are on
        the judged half of a target alone.
        """
        kind = str(classification.teacher)
        bench.report(Standing(fold, folds, f"{kind} answers fold {fold + 1} of {folds}"))
        teacher = make_member(kind, kind, {}).fit(train.take(others), valid)
        weights = class_weights(train.labels[others], classification.class_weight)
        answers = teacher.predict_logits(train.take(held).without_labels())
        return np.asarray(answers + np.log(weights), dtype=np.float32)

    soft, notes = _out_of_fold(
        train, folds, seed, teachers if classification.teacher is not None else own
    )
    last = bench if classification.teacher else _part(bench, folds, folds + 1, "last")
    return _noted(attempt(everything, soft, last, "all"), [texts.note, *notes])


def _out_of_fold(
    train: LabelledPairs,
    folds: int,
    seed: int,
    answered: Callable[[int, NDArray[np.int64], NDArray[np.int64]], Logits],
) -> tuple[Probabilities, list[str]]:
    """What those say of a pair that never saw its query, (pairs, 4), and how they did.

    `answered` takes a fold's number, the rows to learn from and those to answer.
    """
    fold_of = pair_folds(train, folds, seed, "distil")
    soft = np.empty((len(train), len(LABELS)), np.float32)
    notes = []
    for fold in range(folds):
        held = np.flatnonzero(fold_of == fold)
        if not len(held):
            continue
        others = np.flatnonzero(fold_of != fold)
        if not len(others):
            raise DataError(
                f"all training queries fall into one of the {folds} folds that distil asks for; "
                "expected queries in several: give more of them, or set distil to 0"
            )
        soft[held] = softmax(answered(fold, others, held))
        right = float((soft[held].argmax(axis=1) == train.labels[held]).mean())
        notes.append(
            f"fold {fold + 1} of {folds}: accuracy {right:.3f} on {len(held)} held-out pairs"
        )
    return soft, notes


def _part(bench: Workbench, at: int, of: int, name: str) -> Workbench:
    """The bench of one training of several that follow each other."""

    def report(standing: Standing) -> None:
        done = at * _PARTS + standing.done * _PARTS // max(standing.total, 1)
        said = f"part {at + 1} of {of}"
        bench.report(Standing(done, of * _PARTS, f"{said}: {standing.note}"))

    return Workbench(bench.folder / name if bench.folder else None, report)


def _noted(curve: Curve, notes: list[str]) -> Curve:
    return replace(curve, notes=(*curve.notes, *filter(None, notes)))
