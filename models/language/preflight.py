"""What a language member needs to be fitted, found before it is.

It needs torch only where options ask for what not every network or machine can do.
"""

from collections.abc import Iterable
from pathlib import Path

from models.language.backbones import find_backbone, is_made_on_the_spot
from models.language.limits import refuse_by_config, refuse_keeping
from models.language.presets import LoraOptions, PairPooling
from models.language.sources.folder import CONFIG_FILE, read_object
from models.needs import Needs
from models.training.options import TrainingOptions
from models.workbench import NO_WORKBENCH


def backbone_needs(
    name: str,
    lora: LoraOptions | bool | None,
    *,
    allow_download: bool,
    modules: Iterable[str] = (),
    max_tokens: int | None = None,
    pooling: PairPooling | None = None,
    training: TrainingOptions | None = None,
) -> Needs:
    """The backbone called `name`, which is downloaded where that is allowed, and `modules`.

    What is asked of it and cannot be had, by what its configuration says, is refused, and so is
    what this machine cannot do. One that is made on the spot is no source: its texts and its seed
    decide it.
    """
    training = training or TrainingOptions()
    by_default, sources = False, {}
    if not is_made_on_the_spot(name):
        with NO_WORKBENCH.scratch("backbone") as scratch:
            found = find_backbone(name, scratch, allow_download=allow_download)
            config = read_object(found.folder / CONFIG_FILE)
            refuse_by_config(
                name,
                config,
                found.preset,
                max_tokens=max_tokens,
                pooling=pooling,
                trained_layers=training.trained_layers,
            )
            if training.checkpointing:
                _refuse_keeping(name, found.folder, str(config.get("model_type")))
        by_default, sources = found.preset.lora, {"backbone": found.sha256}
    has_adapters = by_default if lora is None else bool(lora)
    training.check_pushable(embeddings_learn=not has_adapters)
    if training.precision == "fp16":
        _refuse_half_precision(training)
    return Needs((*modules, *(("peft",) if has_adapters else ())), sources)


# Torch and its friends take seconds to import, and a fit that asks for such things would have them
# refused only after its data was read and others were trained.


def _refuse_keeping(name: str, folder: Path, architecture: str) -> None:
    from models.language.networks.loading import can_recompute

    refuse_keeping(name, architecture, can_recompute=can_recompute(folder))


def _refuse_half_precision(training: TrainingOptions) -> None:
    from models.training.steps import precision, processes

    precision.mixed_precision(training.precision, processes.training_device())
