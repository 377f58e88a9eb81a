import dataclasses
from math import inf, nan

import pytest

from models.errors import ConfigError
from models.language.metric.options import MetricOptions, TcmOptions
from models.language.presets import LoraOptions
from models.language.pretraining.options import ContrastOptions, MaskingOptions
from models.members.bi_encoder import BiEncoderOptions
from models.members.cross_encoder import CrossEncoderOptions
from models.training.options import ClassificationOptions, TrainingOptions
from models.typed import require_finite
from pipelines.adapting.config import AdaptConfig
from pipelines.config import TrainConfig

NUMBERS = [
    (kind, field.name)
    for kind in (
        AdaptConfig,
        BiEncoderOptions,
        ClassificationOptions,
        ContrastOptions,
        CrossEncoderOptions,
        LoraOptions,
        MaskingOptions,
        MetricOptions,
        TcmOptions,
        TrainConfig,
        TrainingOptions,
    )
    for field in dataclasses.fields(kind)
    if "float" in str(field.type)
]


@pytest.mark.parametrize("number", [nan, inf, -inf])
@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_no_option_is_nan_or_infinite(kind, name, number):
    with pytest.raises(ConfigError, match=name):
        kind(**{name: number})


def test_every_number_is_looked_at_and_nothing_else():
    @dataclasses.dataclass
    class Mixed:
        count: int = 3
        name: str = "nan"
        left_open: float | None = None
        share: float = 0.5

    require_finite(Mixed())
    with pytest.raises(ConfigError, match="share -inf: expected a finite number"):
        require_finite(Mixed(share=-inf))
