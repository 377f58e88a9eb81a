"""Configuration of a domain adaptation."""

from dataclasses import dataclass, field
from typing import Final

from models.errors import ConfigError
from models.language.preflight import backbone_needs
from models.language.presets import LoraOptions
from models.language.pretraining.options import ContrastOptions, MaskingOptions, Objective
from models.language.reading.reader import TextOptions
from models.locales import Locale
from models.needs import Needs
from models.training.options import TrainingOptions
from models.typed import STRICT

ENVIRONMENT_PREFIX: Final = "ESCI_ADAPT__"


@dataclass(frozen=True)
class AdaptConfig:
    """What one adaptation does."""

    __pydantic_config__ = STRICT

    backbone: str = "minilm"  # a folder, a preset, a hub id; as of a language member
    allow_download: bool = False
    objective: Objective = "mlm"
    # The queries that a training with the same two keys holds out are held out here too.
    seed: int = 7
    validation: float = 0.15
    measured_products: int = 1000  # held out to be measured on, at most a tenth of the catalogue
    locales: list[Locale] | None = None  # of the catalogue; None reads all
    # Adapters instead of all weights, merged at the end. None: as the preset has it; false: none.
    lora: LoraOptions | bool | None = None
    text: TextOptions = field(default_factory=TextOptions)
    masking: MaskingOptions = field(default_factory=MaskingOptions)
    contrast: ContrastOptions = field(default_factory=ContrastOptions)
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            epochs=1, batch_size=64, evaluations_per_epoch=4, checkpoint_seconds=60.0
        )
    )

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"found seed {self.seed}; expected 0 or more")
        if not 0 < self.validation < 1:
            raise ConfigError(f"found validation {self.validation}; expected a share, as in 0.15")
        if self.measured_products < 1:
            raise ConfigError(
                f"found measured_products {self.measured_products}; expected at least 1"
            )
        if self.training.trained_layers == 0:
            raise ConfigError(
                "training.trained_layers is 0, which leaves the backbone as it is; expected none "
                "of it, or the number of layers to adapt"
            )
        names = {name for name, _ in self.text.fields}
        by_fields = self.objective == "contrastive" and self.contrast.views == "fields"
        if by_fields and not {"title"} < names:
            raise ConfigError(
                f"contrast.views 'fields' with the fields {sorted(names)}; expected title and at "
                "least one other, or the views 'dropout'"
            )

    def needs(self) -> Needs:
        """The backbone, and what adapters and the training take."""
        return backbone_needs(
            self.backbone,
            self.lora,
            allow_download=self.allow_download,
            max_tokens=self.text.max_tokens,
            training=self.training,
        )
