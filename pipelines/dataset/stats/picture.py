"""The figures of a dataset as one picture, with the panels it has something for."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError
from models.files import atomic_file
from models.labels import LABEL_NAMES, LABELS
from models.pairs import PRODUCT_FIELDS
from pipelines.dataset.layout import SPLITS
from pipelines.dataset.stats.summary import ABSENT, EVERY, Behaviours, Concentration, DatasetStats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS: Final = (".png", ".svg", ".pdf")

# Okabe and Ito's palette: told apart by people who do not see red and green.
_LABEL_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
_INK: Final = "#333333"
_COLUMNS: Final = 3
# A slice of a bar thinner than this has no room for its number.
_ROOM_FOR_NUMBER: Final = 0.045

_GRID: Final = "#e6e6e6"
_STYLE: Final[dict[Any, Any]] = {
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
}

Panel = Callable[["Axes"], None]


def check_picture_path(path: Path, folder: Path) -> None:
    """Refuse a picture that cannot be drawn, or that would lie in the dataset's folder."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"--picture {path} ends in {path.suffix or 'nothing'!r}; "
            f"expected one of {', '.join(FORMATS)}"
        )
    if path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"--picture {path} lies in the dataset folder, which holds data alone; "
            "name another place"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"--picture {path} cannot be written: {error.strerror}; name another place"
        ) from error
    if path.is_dir():
        raise ConfigError(f"--picture {path} is a folder; name a file in it")


def draw(stats: DatasetStats, path: Path) -> None:
    """Write the picture; its format follows from the ending of `path`."""
    # A Figure of its own needs neither a display nor pyplot's global state.
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels = _panels(stats)
    columns = _COLUMNS if len(panels) > 4 else 2
    rows = max(1, -(-len(panels) // columns))
    with rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
        figure = Figure(figsize=(5.0 * columns, 3.7 * rows + 0.5), layout=layout, dpi=130)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, axis in zip(panels, axes, strict=False):
            panel(axis)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        figure.suptitle(_headline(stats), x=0.012, ha="left", fontsize=13, fontweight="bold")
        with atomic_file(path) as scratch:
            figure.savefig(scratch, format=path.suffix[1:].lower())


def _headline(stats: DatasetStats) -> str:
    name = Path(stats.folder).resolve().name
    products = sum(catalogue.products for catalogue in stats.catalogues)
    if not stats.slices:
        return f"{name}: no pairs, {products:,} products"
    whole = stats.slices[0]
    return f"{name}: {whole.pairs:,} pairs, {whole.queries:,} queries, {products:,} products"


def _panels(stats: DatasetStats) -> list[Panel]:
    panels: list[Panel] = []
    if stats.slices:
        panels += [
            lambda axis: _draw_labels(axis, stats),
            lambda axis: _draw_judged(axis, stats),
        ]
    if stats.catalogues:
        panels += [
            lambda axis: _draw_lengths(axis, stats),
            lambda axis: _draw_coverage(axis, stats),
        ]
    if (behaviours := stats.behaviours) and behaviours.rows:
        if any(amount.month != ABSENT for amount in behaviours.amounts):
            panels.append(lambda axis: _draw_months(axis, behaviours))
        if behaviours.concentration.shares_of_queries:
            panels.append(lambda axis: _draw_concentration(axis, behaviours.concentration))
    return panels


def _draw_labels(axis: "Axes", stats: DatasetStats) -> None:
    locales = [one.locale for one in stats.slices if one.split == EVERY]
    if len(locales) == 2:
        locales.remove(EVERY)  # the sum of one locale is that locale
    bars, place, places = [], 0.0, []
    for locale in locales:
        of_locale = [one for one in stats.slices if one.locale == locale]
        split = [one for one in of_locale if one.split in SPLITS] or of_locale
        for one in split:
            bars.append(one)
            places.append(place)
            place += 1
        place += 0.5
    left = np.zeros(len(bars))
    for label, colour in zip(LABELS, _LABEL_COLOURS, strict=True):
        shares = np.array([one.share(label) for one in bars])
        axis.barh(places, shares, 0.82, left=left, color=colour, label=LABEL_NAMES[label])
        for y, x, share in zip(places, left, shares, strict=True):
            if share >= _ROOM_FOR_NUMBER:
                number = f"{100 * share:.0f}"
                axis.text(
                    x + share / 2, y, number, ha="center", va="center", color="white", fontsize=8
                )
        left += shares
    axis.set_yticks(places, [f"{one.locale} {one.split}" for one in bars])
    axis.invert_yaxis()
    axis.set(title="Labels by locale and split, in %", xlim=(0, 1), xticks=[])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(length=0)
    axis.legend(
        ncols=4, loc="upper center", bbox_to_anchor=(0.5, 0.0), columnspacing=1.2, handlelength=1
    )


def _draw_judged(axis: "Axes", stats: DatasetStats) -> None:
    whole = stats.judged[0]
    deepest = len(whole.histogram) - 1
    splits = [judged for judged in stats.judged if judged.split != EVERY]
    # One in front of the other, not stacked: on a logarithmic axis a stack says nothing.
    for at, judged in enumerate(splits):
        queries = judged.histogram[1:]
        axis.bar(
            range(1, len(queries) + 1),
            queries,
            0.9 / (1 + at),
            color=(_COLOURS[5], _COLOURS[0], *_COLOURS[1:5])[at % 6],
            label=judged.split,
        )
    counts = np.array(whole.histogram[1:])
    if counts.max() > 50 * np.median(counts[counts > 0]):
        axis.set_yscale("log")
        axis.set_ylim(0.7, 2 * counts.max())
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlim(0.2, deepest + 0.8)
    if whole.products.max > deepest:
        axis.set_xticks([1, *range(10, deepest, 10), deepest])
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:.0f}+" if x == deepest else f"{x:.0f}")
    axis.set(title="Judged products per query", xlabel="judged products", ylabel="queries")
    axis.grid(axis="y", color=_GRID, linewidth=0.8)
    facts = (
        f"median {whole.products.median}, p95 {whole.products.p95}, max {whole.products.max}\n"
        f"{whole.single_level:.0%} of queries have one label only\n"
        f"{whole.five_or_more:.0%} have 5 or more"
    )
    axis.legend(loc="upper right", title=facts, title_fontsize=8, alignment="right")


def _draw_lengths(axis: "Axes", stats: DatasetStats) -> None:
    names = ["query", *PRODUCT_FIELDS]
    queries = {found.locale: found.tokens for found in stats.queries}
    catalogues = stats.catalogues
    step = 0.8 / len(catalogues)
    for row, (catalogue, colour) in enumerate(
        zip(catalogues, _cycle(len(catalogues)), strict=True)
    ):
        spreads = [
            queries.get(catalogue.locale),
            *(catalogue.fields[name].tokens for name in PRODUCT_FIELDS),
        ]
        places = np.arange(len(names)) + (row - (len(catalogues) - 1) / 2) * step
        drawn = [(y, spread) for y, spread in zip(places, spreads, strict=True) if spread]
        drawn = [(y, spread) for y, spread in drawn if spread.count]
        y = [place for place, _ in drawn]
        median, p95 = ([getattr(spread, at) for _, spread in drawn] for at in ("median", "p95"))
        axis.hlines(y, median, p95, color=colour, linewidth=2.5, alpha=0.45)
        axis.plot(median, y, "o", color=colour, markersize=5, label=catalogue.locale)
        axis.plot(p95, y, "|", color=colour, markersize=8, markeredgewidth=2)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=_GRID, linewidth=0.8)
    axis.set(title="Text lengths by locale: median to p95", xlabel="tokens")
    axis.legend(loc="best")


def _draw_coverage(axis: "Axes", stats: DatasetStats) -> None:
    catalogues = stats.catalogues
    shares = np.array(
        [
            [catalogue.fields[name].present / catalogue.products for name in PRODUCT_FIELDS]
            for catalogue in catalogues
        ]
    )
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.6 else _INK
        axis.text(column, row, f"{share:.0%}", ha="center", va="center", color=colour)
    axis.set_xticks(range(len(PRODUCT_FIELDS)), PRODUCT_FIELDS)
    axis.set_yticks(
        range(len(catalogues)),
        [f"{catalogue.locale}\n{catalogue.products:,}" for catalogue in catalogues],
    )
    axis.set(title="Share of products that have each field")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _draw_months(axis: "Axes", behaviours: Behaviours) -> None:
    by_both = behaviours.by("relation", "month")
    dated = [month for (month,) in behaviours.by("month") if month != ABSENT]
    months = np.arange(np.datetime64(min(dated), "M"), np.datetime64(max(dated), "M") + 1)
    relations = [relation for (relation,) in behaviours.by("relation")]
    for relation, colour in zip(relations, _cycle(len(relations)), strict=True):
        weights = [by_both.get((relation, str(month)), (0, np.nan))[1] for month in months]
        axis.plot(
            months.astype("datetime64[D]"),
            weights,
            "o-",
            color=colour,
            markersize=3,
            linewidth=1.6,
            label=relation,
        )
    axis.set_yscale("log")
    _tick_months(axis, months)
    axis.grid(axis="y", color=_GRID, linewidth=0.8)
    axis.set(title="Behaviours by month", ylabel="weight")
    axis.legend(ncols=min(3, len(relations)), loc="upper center", bbox_to_anchor=(0.5, -0.1))


def _tick_months(axis: "Axes", months: NDArray[np.datetime64]) -> None:
    import matplotlib.dates

    dates: Any = matplotlib.dates  # without annotations of its own
    locator = dates.AutoDateLocator(minticks=min(3, len(months)), maxticks=8)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def _draw_concentration(axis: "Axes", found: Concentration) -> None:
    queries, weight = found.shares_of_queries, found.shares_of_weight
    axis.plot(queries, weight, color=_COLOURS[0], linewidth=2)
    axis.fill_between(queries, weight, color=_COLOURS[0], alpha=0.12)
    axis.plot(queries, queries, color="#bbbbbb", linewidth=1, linestyle="--", label="all alike")
    axis.plot(0.01, found.top_percent, "o", color=_COLOURS[4])
    axis.annotate(
        f"1% of queries: {found.top_percent:.0%}",
        (0.01, found.top_percent),
        xytext=(8, -4),
        textcoords="offset points",
        color=_COLOURS[4],
        va="top",
    )
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda x, _: f"{100 * x:g}%")
    axis.yaxis.set_major_formatter(lambda y, _: f"{100 * y:g}%")
    axis.grid(color=_GRID, linewidth=0.8)
    axis.set(
        title="Head and tail of the queries",
        xlabel="heaviest queries",
        ylabel="their share of the weight",
        xlim=(min(queries), 1),
        ylim=(0, 1.02),
    )
    axis.legend(loc="upper left")


def _cycle(count: int) -> list[str]:
    return [_COLOURS[at % len(_COLOURS)] for at in range(count)]
