"""`esci data demo`: a generated dataset to try everything on."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from models.labels import LABEL_NAMES, LABELS
from models.typed import plain
from pipelines.console import err, out, print_json, progress
from pipelines.dataset.layout import BEHAVIOURS_FILE, LINKS_FILE
from pipelines.dataset.target import check_target
from pipelines.demo.generate import DemoSummary, generate
from pipelines.demo.options import DemoOptions

_DEFAULTS = DemoOptions()


def demo(
    products: Annotated[
        int, typer.Option(help="How many products; the rest grows with them.")
    ] = _DEFAULTS.products,
    seed: Annotated[
        int, typer.Option(help="Another seed, another catalogue; the same, the same.")
    ] = _DEFAULTS.seed,
    to: Annotated[Path, typer.Option("--out", "-o", help="The dataset folder to write.")] = Path(
        ".esci/demo"
    ),
    queries: Annotated[
        int | None, typer.Option(help="How many queries to judge; one per six products if unset.")
    ] = _DEFAULTS.queries,
    label_noise: Annotated[
        float, typer.Option(help="Share of judgements where the annotator errs.")
    ] = _DEFAULTS.label_noise,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the dataset that is in the folder.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Generate the demo catalogue: an invented shop in English, Spanish and Japanese.

    Products, judged queries of all four labels, a year of behaviours and product links, in the
    official layout. It shows that everything runs, and says nothing of quality on real data.

    Example: [bold]esci data demo --products 5000 --seed 7 --out .esci/demo[/]
    """
    options = DemoOptions(products=products, seed=seed, queries=queries, label_noise=label_noise)
    target = check_target(to, force=force)
    started = time.monotonic()
    with progress("generating", options.steps()) as tick:
        summary = generate(target, options, tick)
    seconds = time.monotonic() - started
    if json:
        print_json({"folder": str(to), "seconds": round(seconds, 3), **plain(summary)})
    else:
        _print(summary, to, seconds)
    err.print(f"next: esci data validate {escape(str(to))}", soft_wrap=True)


def _print(summary: DemoSummary, folder: Path, seconds: float) -> None:
    locales = ", ".join(f"{name} {count:,}" for name, count in summary.products.items())
    pairs = sum(summary.pairs.values())
    table = Table(title=f"demo catalogue, seed {summary.options.seed}", show_header=False)
    table.add_row("products", f"{sum(summary.products.values()):,}", locales)
    table.add_row(
        "queries",
        f"{summary.queries:,}",
        f"judged, {summary.small_queries:,} of them hard; "
        f"the log knows {summary.unjudged_queries:,} more",
    )
    labels = ", ".join(
        f"{LABEL_NAMES[label]} {summary.pairs[label] / max(pairs, 1):.1%}" for label in LABELS
    )
    table.add_row("judgements", f"{pairs:,}", labels)
    table.add_row(
        "cold", f"{summary.cold_products:,}", f"products, and {summary.cold_queries:,} queries"
    )
    table.add_row("behaviours", f"{summary.rows[BEHAVIOURS_FILE]:,}", "rows, over a year")
    table.add_row("links", f"{summary.rows[LINKS_FILE]:,}", "between products")
    out.print(table)
    out.print(f"wrote {escape(str(folder))} in {seconds:.1f} s", soft_wrap=True)
