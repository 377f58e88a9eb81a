"""Options that every language member has."""

from dataclasses import dataclass, field, replace
from typing import Self

from models.errors import ConfigError
from models.language.preflight import backbone_needs
from models.language.presets import LoraOptions, PairPooling, Preset
from models.language.reading.reader import TextOptions
from models.language.serving.options import ServingOptions
from models.needs import Needs
from models.registry import MODULES
from models.training.options import ClassificationOptions, TrainingOptions
from models.typed import STRICT


@dataclass(frozen=True)
class LanguageOptions:
    """The backbone, what it reads, how it is trained and how it is served."""

    __pydantic_config__ = STRICT

    backbone: str = "minilm"
    allow_download: bool = False  # of the backbone, when fitted; a fitted member needs no network
    text: TextOptions = field(default_factory=TextOptions)
    pooling: PairPooling | None = None  # None: the backbone's preset
    dropout: float = 0.1  # of what the head sees; the backbone has its own
    # Adapters instead of all weights. None: as the backbone's preset has it; false: none.
    lora: LoraOptions | bool | None = None
    training: TrainingOptions = field(default_factory=TrainingOptions)
    classification: ClassificationOptions = field(default_factory=ClassificationOptions)
    serving: ServingOptions = field(default_factory=ServingOptions)
    seed: int = 7

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout {self.dropout}: expected 0 to below 1")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed}: expected 0 or more")

    def needs(self) -> Needs:
        """The backbone, and what adapters, a teacher and the training take."""
        of_teacher = MODULES.get(self.classification.teacher or "", ())
        return backbone_needs(
            self.backbone,
            self.lora,
            allow_download=self.allow_download,
            modules=(*self.modules(), *of_teacher),
            max_tokens=self.text.max_tokens,
            pooling=self.pooling,
            training=self.training,
        )

    def modules(self) -> tuple[str, ...]:
        """What the training imports besides the extra that training always takes."""
        return ()

    def resolved(self, preset: Preset) -> Self:
        """The same with what was left open taken from the backbone's preset."""
        lora = preset.lora if self.lora is None else self.lora
        rate = self.training.learning_rate or preset.learning_rate
        return replace(
            self,
            pooling=self.pooling or preset.pooling,
            lora=LoraOptions() if lora is True else lora,
            training=replace(self.training, learning_rate=rate),
        )
