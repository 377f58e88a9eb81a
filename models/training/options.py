"""Hyperparameters of training and of the classification loss.

Nothing here needs torch: a process that serves reads them too, to say how a member was made.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal

from models.errors import ConfigError
from models.registry import KINDS, SHARED
from models.typed import STRICT
from models.weights import ClassWeight, check_class_weight

Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Score = Literal["macro_f1", "weighted_f1", "accuracy", "log_loss"]

_MOST_FOLDS = 100


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained; whatever can be switched off is off at 0."""

    __pydantic_config__ = STRICT

    epochs: int = 3
    max_steps: int | None = None  # ends, and anneals the schedule, before the last epoch does
    batch_size: int = 32
    accumulation: int = 1  # batches per step: memory of one, gradient of all
    learning_rate: float | None = None  # None: the backbone's preset
    head_learning_rate: float | None = None  # None: that of the backbone's top layer
    layer_decay: float = 1.0  # a layer's learning rate over that of the layer above it
    weight_decay: float = 0.01  # of matrices; biases and norms have none
    schedule: Schedule = "linear"
    warmup: float = 0.1  # of all steps
    clip_norm: float = 1.0
    # Layers that learn, from the top; 0 leaves the backbone as it is and None trains all of it.
    # What enters them is computed once and kept, so few layers train several times faster.
    trained_layers: int | None = None
    cache_megabytes: int = 8192  # on disk; beyond, the lower layers are computed at every step
    cache_precision: Literal["fp16", "bf16", "fp32"] = "fp16"
    ema: float = 0.0  # decay of the running mean of the weights, as in 0.999
    fgm: float = 0.0  # length of the adversary's push on the embeddings; a second pass every step
    checkpointing: bool = False  # recompute activations in the backward pass: slower, less memory
    # auto: bf16 on a GPU that has it, else fp32. A processor with bf16 instructions may gain too,
    # but has to be asked.
    precision: Precision = "auto"
    evaluations_per_epoch: int = 1
    patience: int = 0  # evaluations without a better score before training stops
    keep_best: bool = True  # end with the weights of the best score, rather than the last
    checkpoint_seconds: float = 120.0  # what a kill may cost

    def __post_init__(self) -> None:
        counts = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "accumulation": self.accumulation,
            "evaluations_per_epoch": self.evaluations_per_epoch,
            "max_steps": 1 if self.max_steps is None else self.max_steps,
        }
        for name, count in counts.items():
            if count < 1:
                raise ConfigError(f"{name} {count}: expected at least 1")
        positive = {
            "learning_rate": self.learning_rate,
            "head_learning_rate": self.head_learning_rate,
            "clip_norm": self.clip_norm,
        }
        for name, number in positive.items():
            if number is not None and not 0 < number < inf:
                raise ConfigError(f"{name} {number}: expected a finite number above 0")
        not_negative = {
            "weight_decay": self.weight_decay,
            "fgm": self.fgm,
            "patience": self.patience,
            "cache_megabytes": self.cache_megabytes,
            "checkpoint_seconds": self.checkpoint_seconds,
            "trained_layers": self.trained_layers or 0,
        }
        for name, number in not_negative.items():
            if not 0 <= number < inf:
                raise ConfigError(f"{name} {number}: expected a finite number of 0 or more")
        for name, share in {"warmup": self.warmup, "ema": self.ema}.items():
            if not 0 <= share < 1:
                raise ConfigError(f"{name} {share}: expected 0 <= {name} < 1")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(
                f"layer_decay {self.layer_decay}: expected above 0, and 1 for one rate everywhere"
            )
        if self.fgm and self.trained_layers is not None:
            raise ConfigError(
                "fgm pushes embeddings, and trained_layers leaves them as they are; expected one "
                "of the two"
            )

    def check_pushable(self, *, embeddings_learn: bool) -> None:
        """Refuse an adversary that would have no embeddings to push."""
        if self.fgm and not embeddings_learn:
            raise ConfigError(
                f"fgm {self.fgm} pushes embeddings, and none learn here; expected fgm 0, or "
                "embeddings that learn: with adapters (lora) they are frozen"
            )


@dataclass(frozen=True)
class ClassificationOptions:
    """What four logits are taught; shared by the members that end in them."""

    __pydantic_config__ = STRICT

    # bce treats the four labels as four questions, as the published ensemble does.
    loss: Literal["ce", "bce"] = "ce"
    label_smoothing: float = 0.0
    class_weight: ClassWeight = "none"  # "none" keeps probabilities honest
    list_weight: float = 0.0  # 0 weighs all pairs alike, 1 all queries
    r_drop: float = 0.0  # weight of the distance between two passes with other dropout
    # Folds of the training queries whose out-of-fold answers become soft labels; as many more
    # trainings. 0 teaches the judged labels alone.
    distil: int = 0
    # A kind of member that is fitted in seconds, such as "lexical", whose answers those are, in
    # place of as many trainings of this one: what it knows of words, a network learns from few
    # labels only with its help.
    teacher: str | None = None
    distil_weight: float = 0.5  # of the soft label; the rest is the judged one's
    choose_by: Score = "macro_f1"  # what the kept weights do best on the validation side

    def __post_init__(self) -> None:
        check_class_weight(self.class_weight)
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing {self.label_smoothing}: expected 0 to below 1")
        if not 0 <= self.list_weight <= 1:
            raise ConfigError(f"list_weight {self.list_weight}: expected 0 to 1")
        if not 0 <= self.distil_weight <= 1:
            raise ConfigError(f"distil_weight {self.distil_weight}: expected 0 to 1")
        if not 0 <= self.r_drop < inf:
            raise ConfigError(f"r_drop {self.r_drop}: expected a finite number of 0 or more")
        # A network is fitted with options of its own, for as long as this one, and by all processes
        # of a launch, of which one can ask it.
        teachers = [kind for kind in KINDS if kind not in SHARED]
        if self.teacher in SHARED:
            raise ConfigError(
                f"teacher {self.teacher!r} is a network, which every fold would train anew with "
                f"options that nobody has set; expected one of {', '.join(teachers)}, or none: "
                "then the answers are by trainings of this member"
            )
        if self.teacher is not None and (self.teacher not in teachers or not self.distil):
            raise ConfigError(
                f"teacher {self.teacher!r} with distil {self.distil}: expected one of "
                f"{', '.join(teachers)}, and 2 or more folds for it to answer out of"
            )
        if self.distil and not 2 <= self.distil <= _MOST_FOLDS:
            raise ConfigError(f"distil {self.distil}: expected 0, or 2 to {_MOST_FOLDS} folds")

    def check_undistilled(self, kind: str) -> None:
        """Refuse to distil for members of the `kind`, which cannot be distilled."""
        if self.distil:
            raise ConfigError(f"distil is for cross-encoders; expected 0 for a {kind}")
