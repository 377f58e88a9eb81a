import subprocess
import sys
from math import inf, nan

import pytest

from models.errors import ConfigError
from models.registry import SHARED
from models.training.options import ClassificationOptions, TrainingOptions
from models.typed import parse, plain


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": 0}, "epochs 0"),
        ({"max_steps": 0}, "max_steps 0"),
        ({"accumulation": 0}, "accumulation 0"),
        ({"learning_rate": 0.0}, "learning_rate 0.0"),
        ({"clip_norm": -1.0}, "clip_norm -1.0"),
        ({"warmup": 1.0}, "warmup 1.0"),
        ({"ema": 1.0}, "ema 1.0"),
        ({"layer_decay": 0.0}, "layer_decay 0.0"),
        ({"layer_decay": 1.5}, "layer_decay 1.5"),
        ({"trained_layers": -1}, "trained_layers -1"),
        ({"fgm": 1.0, "trained_layers": 2}, "fgm pushes embeddings"),
    ],
)
def test_training_that_cannot_be_meant_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        TrainingOptions(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing 1.0"),
        ({"list_weight": 1.1}, "list_weight 1.1"),
        ({"class_weight": 1.5}, "class_weight 1.5"),
        ({"teacher": "lexical"}, "teacher 'lexical' with distil 0"),
        ({"teacher": "nobody", "distil": 3}, "expected one of lexical, and 2"),
        *(
            ({"teacher": kind, "distil": 3}, f"{kind}' is a network.*expected one of lexical, or")
            for kind in sorted(SHARED)
        ),
        ({"r_drop": -0.1}, "r_drop -0.1"),
        ({"distil": 1}, "distil 1"),
        ({"distil_weight": 2.0}, "distil_weight 2.0"),
    ],
)
def test_a_loss_that_cannot_be_meant_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        ClassificationOptions(**wrong)


@pytest.mark.parametrize("number", [nan, inf, -inf])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(
            (TrainingOptions, name)
            for name in (
                "learning_rate", "head_learning_rate", "layer_decay", "weight_decay", "warmup",
                "clip_norm", "ema", "fgm", "checkpoint_seconds",
            )
        ),
        *(
            (ClassificationOptions, name)
            for name in ("label_smoothing", "list_weight", "r_drop", "distil_weight")
        ),
    ],
)  # fmt: skip
def test_what_is_no_finite_number_is_refused(kind, name, number):
    with pytest.raises(ConfigError, match=f"{name} {number}"):
        kind(**{name: number})


@pytest.mark.parametrize("kind", [TrainingOptions, ClassificationOptions])
def test_options_come_back_from_json(kind):
    assert parse(kind, plain(kind())) == kind()


def test_options_and_curve_are_read_without_torch():
    code = (
        "import sys, models.training.options, models.training.curve, "
        "models.sealed; "
        "print({'torch', 'transformers', 'matplotlib', 'accelerate'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
