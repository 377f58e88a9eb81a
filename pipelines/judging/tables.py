"""The verdict as tables for a person at a terminal; fits eighty columns."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from models.judge.compare import Difference
from models.judge.consistency import COARSE_POSITIVES, ConsistencyTerms
from models.judge.probability import BINS
from models.judge.resample import LEVEL, Estimate
from models.judge.verdict import (
    FEW_QUERIES,
    LESS_IS_BETTER,
    OpisVerdict,
    SliceVerdict,
    Terms,
    Verdict,
)
from models.labels import GAIN_TABLES, LABEL_NAMES, LABELS

TITLES: Final[Mapping[str, str]] = {
    "accuracy": "accuracy, micro-F1",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted-F1",
    "substitute_micro_f1": "S or not, micro-F1",
    "substitute_macro_f1": "S or not, macro-F1",
    "log_loss": "log-loss",
    "brier": "Brier (0 to 2)",
    "ece": f"ECE ({BINS} bins)",
    "classwise_ece": "classwise ECE",
    "ndcg": "nDCG, all lists",
    "ndcg_mixed": "nDCG, mixed lists",
}
_OPIS_TITLES: Final[Mapping[str, str]] = {
    "opis": "OPIS",
    "epsilon_opis_a": "ε-OPIS (A)",
    "epsilon_opis_b": "ε-OPIS (B)",
}
_SLICE_METRICS: Final = ("accuracy", "macro_f1", "log_loss", "ndcg")
_WORST_SHOWN: Final = 5


def tables(verdict: Verdict) -> Iterator[RenderableType]:
    """Every table of a verdict, from the whole to the parts."""
    yield _headline(verdict)
    yield _notes(verdict)
    yield _labels(verdict.whole)
    yield _confusion(verdict.whole)
    for found in verdict.opis:
        terms = verdict.terms.consistency
        yield opis_table(found, terms, f"distance {terms.distance}")
    if len(verdict.slices) > 1:
        yield _slices(verdict)
    if verdict.against:
        yield _comparison(verdict)


def _headline(verdict: Verdict) -> Table:
    whole = verdict.whole
    table = Table(
        title=Text(f"{verdict.system}: {whole.pairs:,} pairs of {_queries(whole)}"),
        title_justify="left",
    )
    table.add_column("less is better: ↓")
    table.add_column("judged", justify="right")
    table.add_column("majority", justify="right", style="dim")
    for name, title in TITLES.items():
        arrow = " ↓" if name in LESS_IS_BETTER else ""
        table.add_row(
            title + arrow, _interval(whole.metrics[name]), _interval(whole.majority[name])
        )
    return table


def _notes(verdict: Verdict) -> Text:
    whole, terms = verdict.whole, verdict.terms
    gains = ", ".join(f"{label} {gain:g}" for label, gain in GAIN_TABLES[terms.gains].items())
    shares = ", ".join(f"{label} {share:.1%}" for label, share in verdict.majority.shares.items())
    mixed = whole.lists - whole.single_level_lists
    lines = [
        f"In brackets: {LEVEL:.0%} interval from {terms.resamples:,} resamples of queries "
        f"(seed {terms.seed}).",
        f"Majority answers {verdict.majority.label} for every pair, with the shares of the "
        f"{verdict.majority.source} labels ({shares}).",
        f"nDCG takes the gain table {terms.gains} ({gains}), ranks by expected gain, and lets "
        "ties share their discount.",
        f"{whole.single_level_lists:,} of {whole.lists:,} lists "
        f"({whole.single_level_lists / whole.lists:.1%}) have one gain level, so any ranking "
        f"scores the same on them ({whole.gainless_lists:,} of them without any gain count 0); "
        f"the other {mixed:,} are the mixed lists.",
    ]
    if any(found.is_shifted for found in whole.metrics.values()):
        lines.append(
            "†: grows under any noise, also under resampling; the interval sits too high by more "
            "than half a standard error."
        )
    if any(part.queries < 2 for part in verdict.slices) or any(
        found.value is not None and found.low is None for found in whole.metrics.values()
    ):
        lines.append("–: no interval, for fewer than two queries decide the value.")
    if any(part.has_few_queries for part in verdict.slices):
        lines.append(
            f"‡: fewer than {FEW_QUERIES} queries; the interval is too narrow to be trusted."
        )
    if verdict.clipped_pairs:
        lines.append(
            f"{verdict.clipped_pairs:,} judged labels were given a probability of almost 0; the "
            "log-loss counts them at its floor."
        )
    return Text("\n".join(lines), style="dim")


def _labels(whole: SliceVerdict) -> Table:
    table = Table(title="Per label", title_justify="left")
    table.add_column("label")
    table.add_column("pairs", justify="right")
    for name in ("precision", "recall", "F1"):
        table.add_column(name, justify="right")
    for label in LABELS:
        table.add_row(
            f"{label} {LABEL_NAMES[label]}",
            f"{whole.labels[label]:,}",
            *(_stacked(whole.metrics[f"{name}_{label}"]) for name in ("precision", "recall", "f1")),
        )
    return table


def _confusion(whole: SliceVerdict) -> Table:
    table = Table(title="Confusion: rows judged, columns predicted", title_justify="left")
    table.add_column("judged")
    for label in LABELS:
        table.add_column(label, justify="right")
    for at, (label, row) in enumerate(zip(LABELS, whole.confusion, strict=True)):
        total = max(sum(row), 1)
        cells = [f"{count:,} {count / total:4.0%}" for count in row]
        cells[at] = f"[bold]{cells[at]}[/]"
        table.add_row(f"{label} {LABEL_NAMES[label]}", *cells)
    return table


def opis_table(found: OpisVerdict, terms: ConsistencyTerms, threshold_on: str) -> Table | Text:
    """OPIS over one grouping with its worst classes, or why there is none."""
    left_out = (
        f"{found.one_sided:,} left out for want of positives or negatives, {found.too_small:,} "
        f"with fewer than {terms.fewest} of either"
    )
    if found.undefined or found.between is None:
        return Text(f"OPIS by {found.by}: none, for {found.undefined} ({left_out}).")
    table = Table(
        title=Text(f"OPIS by {found.by}: does one threshold serve all alike? 0 is best"),
        caption=(
            f"{found.classes:,} classes, {found.coarse:,} of them with fewer than "
            f"{COARSE_POSITIVES} positives (a coarse curve); {left_out}. "
            f"Positives {', '.join(terms.positives)}, negatives {', '.join(terms.negatives)}; "
            f"{threshold_on} from {found.between[0]:.4f} to {found.between[1]:.4f}, "
            f"where {terms.far[0] * 100:g}% to {terms.far[1] * 100:g}% of all negatives are "
            "accepted, "
            f"{terms.thresholds} thresholds; ε = {terms.epsilon:g}. (A): squared gap between the "
            "curves of the worst and the rest; (B): gap between their mean contributions. The "
            "range stays fixed under resampling."
        ),
        title_justify="left",
        caption_justify="left",
        width=80,
    )
    table.add_column("", ratio=1)
    table.add_column("positives", justify="right")
    table.add_column("negatives", justify="right")
    table.add_column("value", justify="right", no_wrap=True)
    for name, title in _OPIS_TITLES.items():
        table.add_row(title, "", "", _interval(found.metrics[name]))
    table.add_section()
    for one in sorted(found.shown, key=lambda shown: shown.utility)[:_WORST_SHOWN]:
        table.add_row(
            Text(one.value, overflow="ellipsis", no_wrap=True),
            f"{one.positives:,}",
            f"{one.negatives:,}",
            f"utility {one.utility:.3f}",
        )
    return table


def _slices(verdict: Verdict) -> Table:
    table = Table(
        title="Slices: value, interval, majority row",
        title_justify="left",
        caption="Every metric of every slice is in judge.json.",
        caption_justify="left",
        show_lines=True,
    )
    table.add_column("slice")
    for name in _SLICE_METRICS:
        table.add_column(TITLES[name].split(",")[0], justify="right")
    for part in verdict.slices:
        mix = " ".join(f"{label}{count / part.pairs:.0%}" for label, count in part.labels.items())
        title = part.value if part.group == "all" else f"{part.group}: {part.value}"
        cell = Text(title, style="bold")
        cell.append(f"\n{part.pairs:,} in {_queries(part)}\n{mix}", style="not bold dim")
        table.add_row(
            cell, *(_stacked(part.metrics[name], part.majority[name]) for name in _SLICE_METRICS)
        )
    return table


def _comparison(verdict: Verdict) -> Table:
    table = _differences(verdict.system, verdict.against or "", verdict.terms)
    for name, found in (verdict.whole.comparison or {}).items():
        if name in TITLES:
            _add_difference(table, TITLES[name], name, found)
    _add_opis(table, verdict.opis)
    return table


def opis_comparison(
    system: str, against: str, groupings: Sequence[OpisVerdict], terms: Terms
) -> Table:
    """Both systems' OPIS by every grouping, with their difference."""
    table = _differences(system, against, terms)
    _add_opis(table, groupings)
    return table


def _differences(system: str, against: str, terms: Terms) -> Table:
    """A table of differences, yet empty."""
    table = Table(
        title=Text(f"{system} less {against}"),
        title_justify="left",
        caption=(
            f"Interval of the difference: {LEVEL:.0%}, both systems on the same resamples of "
            f"queries. p: paired approximate randomisation, answers swapped per query, "
            f"{terms.permutations:,} permutations, two-sided, +1 in both counts."
        ),
        caption_justify="left",
        width=80,
    )
    table.add_column("less is better: ↓", no_wrap=True)
    for name in ("first", "second", "difference", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _add_opis(table: Table, groupings: Sequence[OpisVerdict]) -> None:
    for grouping in groupings:
        for name, found in (grouping.comparison or {}).items():
            title = escape(f"{_OPIS_TITLES[name]} {grouping.by}")
            _add_difference(table, title, name, found)


def _add_difference(table: Table, title: str, name: str, found: Difference) -> None:
    less = name in LESS_IS_BETTER
    style = ""
    low, high = found.difference.low, found.difference.high
    if low is not None and high is not None and (low > 0 or high < 0):
        style = "green" if (high < 0) == less else "red"
    table.add_row(
        title + (" ↓" if less else ""),
        _number(found.first),
        _number(found.second),
        Text(_interval(found.difference), style=style),
        "–" if found.p is None else _chance(found.p),
    )


def _queries(part: SliceVerdict) -> str:
    word = "query" if part.queries == 1 else "queries"
    return f"{part.queries:,} {word}{' ‡' if part.has_few_queries else ''}"


def _chance(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _number(value: float | None, places: int = 4) -> str:
    if value is None:
        return "none"
    # What would show as zeros is told by its size.
    if 0 < abs(value) < 10**-places * 5:
        return f"{value:.1e}"
    return f"{value:.{places}f}"


def _interval(found: Estimate, places: int = 4) -> str:
    if found.value is None:
        return _number(None)
    if found.low is None or found.high is None:
        return f"{_number(found.value, places)} –"
    ends = f"[{_number(found.low, places)}, {_number(found.high, places)}]"
    return f"{_number(found.value, places)} {ends}{'†' if found.is_shifted else ''}"


def _stacked(found: Estimate, majority: Estimate | None = None) -> Text:
    cell = Text(_number(found.value, 3), style="bold")
    if found.value is not None:
        ends = "–" if found.low is None else f"{_number(found.low, 3)}–{_number(found.high, 3)}"
        cell.append(f"\n{ends}", style="not bold")
    if majority is not None:
        cell.append(f"\n{_number(majority.value, 3)}", style="not bold dim")
    return cell
