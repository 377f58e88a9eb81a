"""What a language member needs to be fitted, found before it is; needs no torch."""

from collections.abc import Iterable

from models.language.backbones import find_backbone, is_made_on_the_spot
from models.language.presets import LoraOptions
from models.needs import Needs
from models.workbench import NO_WORKBENCH


def backbone_needs(
    name: str,
    lora: LoraOptions | bool | None,
    *,
    allow_download: bool,
    modules: Iterable[str] = (),
) -> Needs:
    """The backbone called `name`, which is downloaded where that is allowed, and `modules`.

    One that is made on the spot is no source: its texts and its seed decide it.
    """
    by_default, sources = False, {}
    if not is_made_on_the_spot(name):
        with NO_WORKBENCH.scratch("backbone") as scratch:
            found = find_backbone(name, scratch, allow_download=allow_download)
        by_default, sources = found.preset.lora, {"backbone": found.sha256}
    has_adapters = by_default if lora is None else bool(lora)
    return Needs((*modules, *(("peft",) if has_adapters else ())), sources)
