"""What the fit of every language member begins with: a backbone, opened with a reader for it.

Needs torch: members import it when they are fitted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from models.language.backbones import Backbone, find_backbone
from models.language.examples import every_text
from models.language.networks.encoder import Encoder, open_encoder
from models.language.options import LanguageOptions
from models.language.presets import LoraOptions
from models.language.reading.reader import Reader
from models.pairs import Pairs
from models.workbench import Workbench

OptionsT = TypeVar("OptionsT", bound=LanguageOptions)


@dataclass(frozen=True, eq=False)
class Start(Generic[OptionsT]):
    """Where a fit begins."""

    options: OptionsT  # resolved against the backbone's preset
    backbone: Backbone
    encoders: list[Encoder]
    reader: Reader


@contextmanager
def started(
    options: OptionsT, pairs: Pairs, bench: Workbench, encoders: int = 1
) -> Iterator[Start[OptionsT]]:
    """So many encoders of the backbone, each with weights of its own, and their reader.

    What is drawn from torch's generator within comes from the seed of `options`, and leaves the
    generator of others as it was. A tiny backbone is made of the texts of `pairs`.
    """
    with bench.scratch("backbone") as scratch:
        backbone = find_backbone(
            options.backbone,
            scratch,
            texts=every_text(pairs),
            seed=options.seed,
            allow_download=options.allow_download,
        )
        options = options.resolved(backbone.preset)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            opened = [
                open_encoder(
                    backbone,
                    options.text,
                    pooling=options.pooling,
                    lora=options.lora if isinstance(options.lora, LoraOptions) else None,
                    checkpointing=options.training.checkpointing,
                )
                for _ in range(encoders)
            ]
            yield Start(options, backbone, [encoder for encoder, _ in opened], opened[0][1])
