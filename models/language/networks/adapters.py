"""Low-rank adapters: a few trained numbers beside every linear layer of a frozen transformer."""

from collections.abc import Iterable
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from models.errors import ConfigError
from models.language.presets import LoraOptions


def add_adapters(model: Any, layers: Iterable[nn.Module], options: LoraOptions) -> None:
    """Put an adapter beside every linear layer of `layers`; all else of `model` is frozen.

    Embeddings are frozen too, and with them what new field markers began as.
    """
    inside = {module: name for name, module in model.named_modules()}
    targets = [
        inside[module]
        for layer in layers
        for module in layer.modules()
        if isinstance(module, nn.Linear)
    ]
    if not targets:
        raise ConfigError(
            f"lora with a backbone of architecture {model.config.model_type!r}, whose layers hold "
            "no linear layer to put an adapter beside; expected lora false, to train all weights"
        )
    inject_adapter_in_model(
        LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,  # type: ignore[arg-type]  # any number will do
            lora_dropout=options.dropout,
            target_modules=targets,
        ),
        model,
    )


def fold_adapters(model: nn.Module) -> None:
    """Add what the adapters have learnt to the weights beside them, and take them out."""
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.get_base_layer())
