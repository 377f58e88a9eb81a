"""`esci data import`: CSV, TSV or JSON Lines into a dataset folder."""

from pathlib import Path
from typing import Annotated

import typer

from models.typed import plain
from pipelines.commands.data.validate import print_report, print_verdict, report_json
from pipelines.console import err, print_json, progress
from pipelines.dataset.importing.convert import Defaults
from pipelines.dataset.importing.folder import Imported, import_files
from pipelines.dataset.importing.mapping import load_mapping
from pipelines.dataset.validate import ValidateOptions, count_rows, validate


def import_(
    examples: Annotated[
        Path, typer.Option("--examples", help="Labelled pairs: query, product_id, esci_label.")
    ],
    products: Annotated[Path, typer.Option("--products", help="Products: product_id, texts.")],
    out: Annotated[Path, typer.Option("--out", help="The dataset folder to make.")],
    behaviours: Annotated[
        Path | None, typer.Option("--behaviours", help="Clicks, purchases and the like.")
    ] = None,
    links: Annotated[
        Path | None, typer.Option("--links", help="Products bought or viewed together.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="OURS=YOURS",
            help="Your column for one of the layout, in every file that has it; with a role in "
            "front for one file alone (products.product_id=sku); with nothing behind the sign the "
            "column is made up. Repeatable.",
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label-map", metavar="WORD=LABEL", help="A word for E, S, C or I."),
    ] = None,
    locales: Annotated[
        list[str] | None,
        typer.Option("--locale-map", metavar="WORD=LOCALE", help="A word for us, es or jp."),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option("--mapping", help="A TOML file with tables columns, labels and locales."),
    ] = None,
    locale: Annotated[
        str, typer.Option("--locale", help="The locale where a file has no column for it.")
    ] = "us",
    split_test: Annotated[
        float,
        typer.Option(
            "--split-test",
            help="Share of the query texts that go to test where there is no split column.",
        ),
    ] = 0.2,
    seed: Annotated[int, typer.Option("--seed", help="Which texts these are.")] = 7,
    quotes: Annotated[
        bool,
        typer.Option("--quotes/--no-quotes", help="Whether CSV and TSV fields may be quoted."),
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the dataset that is in the folder.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Import CSV, TSV or JSON Lines (also .gz) by column mapping, then validate the result.

    Nothing is written unless every row could be read. The exit code is that of
    `esci data validate` on the new folder.

    Example: esci data import --examples judged.csv --products catalogue.jsonl.gz --out my_data
    --map "query=search_term" --map "esci_label=judgement" --label-map "exact=E"
    """
    given = {"examples": examples, "products": products, "behaviours": behaviours, "links": links}
    paths = {role: path for role, path in given.items() if path is not None}
    total = sum(path.stat().st_size for path in paths.values() if path.is_file())
    with progress("Importing bytes", total) as tick:
        imported = import_files(
            paths,
            out,
            load_mapping(mapping, columns or (), labels or (), locales or ()),
            Defaults(locale, split_test, seed),
            tick,
            quoted=quotes,
            force=force,
        )
    for one in imported.values():
        _say(one)
    with progress("Checking rows", count_rows(out)) as tick:
        report = validate(out, ValidateOptions(), tick)
    if json:
        files = {role: plain(one) for role, one in imported.items()}
        print_json({"folder": str(out), "files": files, "report": report_json(report)})
    elif report.exit_code:
        print_report(report)
    else:
        print_verdict(report)
    raise typer.Exit(report.exit_code)


def _say(imported: Imported) -> None:
    """What became of one file, on standard error."""
    lines = [f"{imported.path}: {imported.rows:,} rows"]
    lines += [f"  {name}: {way}" for name, way in imported.made_up.items()]
    if imported.ignored:
        lines.append(f"  left out: {', '.join(imported.ignored)}")
    for line in lines:
        err.print(line, markup=False, soft_wrap=True)
