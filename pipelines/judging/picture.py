"""The verdict as one picture: reliability of the probabilities, utility over thresholds."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from models.files import atomic_file
from models.judge.probability import BINS, Reliability
from models.judge.verdict import OpisVerdict, Verdict
from models.labels import LABEL_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by people who do not see red and green.
_COLOURS: Final = ("#000000", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
# More curves than this are drawn as their mean and spread.
_FEW: Final = 6


def draw(verdict: Verdict, path: Path) -> None:
    """Write the picture of a verdict as PNG."""
    # A Figure of its own needs neither a display nor pyplot's global state.
    from matplotlib.figure import Figure

    groupings = [found for found in verdict.opis if not found.undefined]
    figure = Figure(figsize=(5.2 * (1 + len(groupings)), 6.4), layout="constrained", dpi=120)
    panels = figure.subplots(
        2, 1 + len(groupings), squeeze=False, height_ratios=(4, 1), sharex="col"
    )
    _draw_reliability(panels[0, 0], panels[1, 0], verdict)
    for column, found in enumerate(groupings, start=1):
        _draw_utility(panels[0, column], found)
        _draw_gap(panels[1, column], found, verdict.terms.consistency.distance)
    figure.suptitle(_written(verdict.system), x=0.01, ha="left", fontweight="bold")
    _save(figure, path)


def draw_opis(groupings: Sequence[OpisVerdict], title: str, threshold_on: str, path: Path) -> None:
    """Write the utility curves over a similarity as PNG; each grouping has an OPIS.

    A class whose name the font cannot write is called `shown[0]` and so on, by its place in JSON.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(groupings), 6.4), layout="constrained", dpi=120)
    panels = figure.subplots(2, len(groupings), squeeze=False, height_ratios=(4, 1), sharex="col")
    for column, found in enumerate(groupings):
        # Where curves fall: to the right, the larger the similarity.
        _draw_utility(panels[0, column], found, legend="upper right")
        _draw_gap(panels[1, column], found, threshold_on)
    figure.suptitle(_written(title), x=0.01, ha="left", fontweight="bold")
    _save(figure, path)


def _save(figure: "Figure", path: Path) -> None:
    for panel in figure.axes:
        panel.spines[["top", "right"]].set_visible(False)
    with atomic_file(path) as scratch:
        figure.savefig(scratch, format="png")


def _draw_reliability(above: "Axes", below: "Axes", verdict: Verdict) -> None:
    above.plot([0, 1], [0, 1], color="0.8", linewidth=1, zorder=0)
    names = [("predicted", "predicted label"), *LABEL_NAMES.items()]
    for (key, name), colour in zip(names, _COLOURS, strict=False):
        found = verdict.reliability[key]
        x, y = _points(found)
        above.plot(x, y, "o-", color=colour, label=name, markersize=3, linewidth=1.2)
    whole = verdict.whole.metrics
    above.set(
        title=f"Reliability: ECE {whole['ece'].value:.4f}, "
        f"classwise {whole['classwise_ece'].value:.4f}",
        ylabel="share that came true",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    above.legend(frameon=False, fontsize=8)
    middles = [(at + 0.5) / BINS for at in range(BINS)]
    below.bar(middles, verdict.reliability["predicted"].pairs, 0.9 / BINS, color="0.6")
    below.set(xlabel="probability", ylabel="pairs")


def _points(found: Reliability) -> tuple[list[float], list[float]]:
    both = [
        (x, y)
        for x, y in zip(found.confidence, found.accuracy, strict=True)
        if x is not None and y is not None
    ]
    return [x for x, _ in both], [y for _, y in both]


def _draw_utility(
    panel: "Axes",
    found: OpisVerdict,
    legend: Literal["lower right", "upper right"] = "lower right",
) -> None:
    x: Any = found.thresholds
    if found.classes <= min(_FEW, len(found.shown)):
        for at, (one, colour) in enumerate(zip(found.shown, _COLOURS[1:], strict=False)):
            # By its place in the JSON, where a name would be a row of boxes.
            label = _plain(one.value) if _can_be_written(one.value) else f"shown[{at}]"
            panel.plot(x, one.curve, color=colour, label=label)
    else:
        panel.fill_between(
            x, found.curves["p10"], found.curves["p90"], color="0.9", label="10 % to 90 %"
        )
        panel.plot(x, found.curves["rest"], color=_COLOURS[1], label="the rest")
        panel.plot(x, found.curves["worst"], color=_COLOURS[5], label="worst classes")
    panel.plot(x, found.curves["mean"], color="black", linestyle="--", label="mean")
    panel.set(
        title=f"Utility by {_written(found.by)}: OPIS {found.metrics['opis'].value:.2e} "
        f"({found.classes:,} classes)",
        ylabel="utility",
        ylim=(0, 1),
    )
    panel.legend(frameon=False, fontsize=8, loc=legend)


def _written(text: str) -> str:
    """`text` with a question mark for each character that the font lacks."""
    return _plain("".join(one if _can_be_written(one) else "?" for one in text))


def _plain(text: str) -> str:
    """`text` as it stands: no formula between dollars, and no name that legends leave out."""
    return (f" {text}" if text.startswith("_") else text).replace("$", r"\$")


def _can_be_written(text: str) -> bool:
    return all(map(_font().get_char_index, map(ord, text)))


@cache
def _font() -> Any:
    """The font that text is drawn in."""
    from matplotlib import font_manager

    return font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))


def _draw_gap(panel: "Axes", found: OpisVerdict, distance: str) -> None:
    """How far the worst classes lie below the rest at each threshold."""
    gap = [
        rest - worst
        for rest, worst in zip(found.curves["rest"], found.curves["worst"], strict=True)
    ]
    panel.fill_between(found.thresholds, gap, color="0.6", linewidth=0)
    panel.set(xlabel=f"threshold on {distance}", ylabel="rest less worst")
