"""What a language member needs to be fitted, found before it is; needs no torch."""

from collections.abc import Iterable

from models.language.backbones import find_backbone, is_made_on_the_spot
from models.language.limits import refuse_by_config
from models.language.presets import LoraOptions, PairPooling
from models.language.sources.folder import CONFIG_FILE, read_object
from models.needs import Needs
from models.workbench import NO_WORKBENCH


def backbone_needs(
    name: str,
    lora: LoraOptions | bool | None,
    *,
    allow_download: bool,
    modules: Iterable[str] = (),
    max_tokens: int | None = None,
    pooling: PairPooling | None = None,
    trained_layers: int | None = None,
) -> Needs:
    """The backbone called `name`, which is downloaded where that is allowed, and `modules`.

    What is asked of it and cannot be had, by what its configuration says, is refused. One that is
    made on the spot is no source: its texts and its seed decide it.
    """
    by_default, sources = False, {}
    if not is_made_on_the_spot(name):
        with NO_WORKBENCH.scratch("backbone") as scratch:
            found = find_backbone(name, scratch, allow_download=allow_download)
            refuse_by_config(
                name,
                read_object(found.folder / CONFIG_FILE),
                found.preset,
                max_tokens=max_tokens,
                pooling=pooling,
                trained_layers=trained_layers,
            )
        by_default, sources = found.preset.lora, {"backbone": found.sha256}
    has_adapters = by_default if lora is None else bool(lora)
    return Needs((*modules, *(("peft",) if has_adapters else ())), sources)
