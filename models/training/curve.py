"""How a training went: loss and validation metrics by step, as data and as a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.errors import DataError
from models.files import atomic_file
from models.typed import STRICT, complaints, parse, plain


@dataclass(frozen=True)
class Point:
    """Where training stood after `step` steps."""

    __pydantic_config__ = STRICT

    step: int
    epoch: float  # passes over the examples so far
    loss: float | None  # mean since the point before; None where it was no number
    metrics: Mapping[str, float] = field(default_factory=dict)  # empty where none were measured


@dataclass(frozen=True)
class Curve:
    """The points of one training, in order, and what it would have one know."""

    __pydantic_config__ = STRICT

    points: tuple[Point, ...] = ()
    best_step: int | None = None  # whose weights were kept; None: the last
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Mapping[str, float]:
        """The metrics of the kept weights; empty where nothing was measured."""
        measured = [point for point in self.points if point.metrics]
        for point in measured:
            if point.step == self.best_step:
                return point.metrics
        return measured[-1].metrics if measured else {}

    def plain(self) -> dict[str, Any]:
        """The curve as JSON has it."""
        value: dict[str, Any] = plain(self)
        return value

    @classmethod
    def of_plain(cls, value: Any) -> "Curve":
        """The curve that `plain` gave."""
        try:
            return parse(cls, value)
        except ValidationError as error:
            raise DataError(f"this is no curve of training: {complaints(error)}") from error

    def draw(self, path: Path) -> None:
        """Write a picture of the curve (SVG), the same bytes for the same curve."""
        # Kept out of the module: a process that serves has no matplotlib.
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.0, 4.0), layout="constrained")
        FigureCanvasSVG(figure)
        loss_axes = figure.subplots()
        losses = {point.step: point.loss for point in self.points if point.loss is not None}
        loss_axes.plot([*losses], [*losses.values()], color="tab:grey", label="loss")
        loss_axes.set_xlabel("step")
        loss_axes.set_ylabel("training loss")
        measured = [point for point in self.points if point.metrics]
        names = [name for name in _drawn(measured) if name != "score"]
        if names:
            score_axes = loss_axes.twinx()
            score_axes.set_ylabel("validation")
            for name in names:
                score_axes.plot(
                    [point.step for point in measured],
                    [point.metrics.get(name, float("nan")) for point in measured],
                    marker="o",
                    markersize=3,
                    label=name.replace("_", " "),
                )
            if self.best_step is not None:
                score_axes.axvline(self.best_step, color="tab:grey", linestyle=":", label="kept")
            score_axes.legend(loc="lower right", fontsize="small")
        loss_axes.legend(loc="upper left", fontsize="small")
        with (
            atomic_file(path) as scratch,
            scratch.open("wb") as written,
            rc_context({"svg.hashsalt": "curve", "svg.fonttype": "none"}),
        ):
            figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})


def _drawn(measured: Sequence[Point]) -> list[str]:
    """Metrics between 0 and 1: a log-loss on the same axis would flatten them."""
    names = sorted({name for point in measured for name in point.metrics})
    return [
        name
        for name in names
        if all(0 <= point.metrics.get(name, 0.0) <= 1 for point in measured) and name != "log_loss"
    ]
