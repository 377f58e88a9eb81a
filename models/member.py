"""What a member is: the one contract every model of the ensemble keeps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError, NotFittedError
from models.pairs import LabelledPairs, Pairs
from models.workbench import NO_WORKBENCH, Workbench

State = TypeVar("State")

Logits: TypeAlias = NDArray[np.float32]
"""Raw scores before softmax, shape (pairs, 4), columns in the order of LABELS."""

Probabilities: TypeAlias = NDArray[np.float32]
"""Shape (pairs, 4), rows sum to one, columns in the order of LABELS."""


@dataclass(frozen=True)
class Cost:
    """What a member takes on the machine it was measured on; zero where nothing was measured."""

    milliseconds_per_pair: float = 0.0
    megabytes: float = 0.0


@runtime_checkable
class Member(Protocol):
    """One model of the ensemble: turns query-product pairs into logits.

    Row i of the logits answers pair i, columns follow LABELS, and no pair's answer depends on
    which other pairs share its batch. That independence is what lets the service batch, cache and
    reorder freely. A member reads texts through `models.text.normalise` only, so two pairs with
    one fingerprint have one answer.

    `fit` may use `valid` to choose hyperparameters and when to stop; it never sees test rows.
    """

    name: str  # unique in an ensemble; prefixes its columns, as in "anthem:E"
    Options: ClassVar[type[Any]]  # the frozen dataclass of its hyperparameters; all have defaults

    def __init__(self, name: str, options: Any) -> None: ...

    def fit(
        self, train: LabelledPairs, valid: LabelledPairs, bench: Workbench = NO_WORKBENCH
    ) -> Self:
        """Learn from `train`, choosing on `valid`; returns itself."""
        ...

    def predict_logits(self, pairs: Pairs) -> Logits:
        """Four logits per pair; (0, 4) for no pairs."""
        ...

    def cost(self) -> Cost:
        """What a benchmark measured, zero where none did."""
        ...

    def save(self, folder: Path) -> None:
        """Write plain files (JSON, npz, safetensors, ONNX) that `load` reads back exactly."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The member saved in `folder`; runs nothing that the folder contains."""
        ...


@runtime_checkable
class Adaptive(Protocol):
    """A member that has several ways to answer, and a measurement of how long each takes.

    By itself it answers in one way that no clock decides. Methods alone, so that a kind can be
    asked whether it is one.
    """

    def quickest(self) -> Self:
        """This member, answering a request in the way that was measured fastest for its size.

        For requests that somebody waits for: answers differ by what the export's gate allows.
        """
        ...


def softmax(logits: NDArray[Any]) -> Probabilities:
    """Probabilities of `logits`, row by row."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)


def require_pairs(name: str, train: LabelledPairs) -> None:
    """Refuse to fit the member `name` on nothing."""
    if not len(train):
        raise DataError(
            f"member {name!r} has no training pairs; expected at least one labelled pair"
        )


def require_fitted(name: str, state: State | None) -> State:
    """The state of the member `name`, which it has once it was fitted or loaded."""
    if state is None:
        raise NotFittedError(f"member {name!r} is not fitted; call fit, or load one that was saved")
    return state
