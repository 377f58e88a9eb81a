"""How far a served network strays from the trained one, and whether that is too far."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.errors import DataError, ExportError
from models.language.serving.options import EXACT, ServingOptions
from models.member import Logits
from models.typed import STRICT


@dataclass(frozen=True)
class Gap:
    """Served against trained, on the same held-out pairs."""

    __pydantic_config__ = STRICT

    pairs: int
    largest_difference: float  # of any logit; -1 where one of them is not finite
    flip_rate: float  # the share of pairs whose label changes
    doubted: float = 0.0  # the share of these pairs that were left to float32


# Of what is yet to be compared: no gate lets it through.
UNMEASURED: Final = Gap(0, -1.0, 1.0)


def measure_gap(trained: Logits, served: Logits) -> Gap:
    """How far `served` is from `trained`.

    Where the trained network is undecided between labels, either is right.
    """
    if not len(trained):
        raise DataError("no held-out pairs to compare an export on; expected at least one")
    if trained.shape != served.shape:
        raise ExportError(
            f"the exported network gave logits of shape {served.shape}; expected {trained.shape}"
        )
    difference = float(np.abs(served.astype(np.float64) - trained).max())
    chosen = trained[np.arange(len(trained)), served.argmax(axis=1)]
    flips = float((chosen < trained.max(axis=1)).mean())
    if not np.isfinite(difference):
        return Gap(len(trained), -1.0, 1.0)
    return Gap(len(trained), difference, flips)


def complaint(variant: str, gap: Gap, options: ServingOptions) -> str:
    """What is wrong with a variant of this gap, in words; empty where nothing is."""
    if variant == EXACT:
        most, often = options.exact_difference, options.exact_flip_rate
    else:
        most, often = options.largest_difference, options.flip_rate
    wrong = []
    if gap.largest_difference < 0:
        wrong.append("a logit is not a finite number")
    elif gap.largest_difference > most:
        wrong.append(f"a logit differs by {gap.largest_difference:.3g}, allowed is {most:g}")
    if gap.flip_rate > often:
        wrong.append(f"{gap.flip_rate:.2%} of the labels change, allowed are {often:.2%}")
    if gap.doubted > options.doubted:
        wrong.append(f"{gap.doubted:.2%} are left to {EXACT}, allowed are {options.doubted:.2%}")
    if not wrong:
        return ""
    return f"{variant} on {gap.pairs} held-out pairs: {'; '.join(wrong)}"
