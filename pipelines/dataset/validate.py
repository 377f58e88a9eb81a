"""Finds, counts and locates every kind of trouble in a dataset folder.

Files are streamed in batches; what stays is codes for the columns that are compared between rows,
so memory grows with the number of rows and distinct keys, not with the catalogue's text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from models.errors import ConfigError, MissingDataError
from pipelines.console import Tick, silent
from pipelines.dataset.checks.columns import Column, ColumnBuilder
from pipelines.dataset.checks.files import count_rows, open_parquet
from pipelines.dataset.checks.report import Findings, Report
from pipelines.dataset.checks.rows import (
    COMPARED,
    Catalogue,
    check_both_splits,
    check_examples,
    check_products,
    check_relations,
    check_repeated_sources,
    check_source_ids,
)
from pipelines.dataset.checks.sources import check_sources
from pipelines.dataset.checks.values import (
    LIMITS,
    Batch,
    check_dates,
    check_product_texts,
    check_values,
    check_weights,
)
from pipelines.dataset.layout import (
    BEHAVIOURS_FILE,
    EXAMPLES_FILE,
    LINKS_FILE,
    PRODUCTS_FILE,
)

__all__ = ["Report", "ValidateOptions", "count_rows", "validate"]


@dataclass(frozen=True)
class ValidateOptions:
    """How to look, and how much to say."""

    examples: int = 5  # rows shown per finding
    strict: bool = False  # warnings count as errors
    limits: Mapping[str, int] = field(default_factory=dict)  # characters, over the usual LIMITS
    today: date = field(default_factory=date.today)  # behaviours after it are in the future

    def __post_init__(self) -> None:
        if self.examples < 0:
            raise ConfigError(f"{self.examples} rows per finding; expected 0 or more")
        if unknown := sorted(set(self.limits) - set(LIMITS)):
            raise ConfigError(
                f"a limit for {unknown[0]!r}; expected a text column: {', '.join(LIMITS)}"
            )


def validate(folder: Path, options: ValidateOptions, tick: Tick = silent) -> Report:
    """Everything there is to say of the dataset in `folder`; `tick` counts rows."""
    if not folder.is_dir():
        raise MissingDataError(
            f"{folder} is not a folder; expected a dataset in the official ESCI layout: make one "
            "with `esci data demo`, `esci data import` or `esci data fetch`"
        )
    run = _Run(folder, options, tick, Findings(options.examples))
    findings = run.findings

    products = run.stream(PRODUCTS_FILE)
    check_products(findings, products)
    # A part of the catalogue, or one without keys, would make every pair look like an orphan.
    keyed = PRODUCTS_FILE in run.whole and products.keys() >= set(COMPARED[PRODUCTS_FILE])
    catalogue = Catalogue.of(products) if keyed else None
    del products
    examples = run.stream(EXAMPLES_FILE)
    check_examples(findings, examples, catalogue)
    source_rows, source_ids = check_sources(folder, findings)
    check_repeated_sources(findings, source_rows, source_ids)
    if EXAMPLES_FILE in run.whole and "split" in examples:
        check_both_splits(findings, examples["split"])
    if EXAMPLES_FILE in run.whole:
        check_source_ids(findings, source_rows, source_ids, examples)
    del examples
    for name in (BEHAVIOURS_FILE, LINKS_FILE):
        check_relations(findings, name, run.stream(name), catalogue)
    return findings.report(folder, run.rows, options.strict)


class _Run:
    """One validation: what it works with and how far it came."""

    def __init__(
        self, folder: Path, options: ValidateOptions, tick: Tick, findings: Findings
    ) -> None:
        self.folder = folder
        self.options = options
        self.tick = tick
        self.findings = findings
        self.limits = {**LIMITS, **options.limits}
        self.rows: dict[str, int] = {}
        self.whole: set[str] = set()  # files read to their end

    def stream(self, name: str) -> dict[str, Column]:
        """Check every row of a file; the columns that are compared between rows come back."""
        opened = open_parquet(self.folder, name, self.findings)
        if opened is None:
            return {}
        builders = {
            column: ColumnBuilder() for column in COMPARED[name] if column in opened.columns
        }
        for start, rows in opened.batches(self.findings, self.tick):
            batch = Batch(name, start, self.findings, self.limits)
            checked = check_values(batch, rows)
            if name == PRODUCTS_FILE:
                check_product_texts(batch, checked)
            if "weight" in checked.arrays:
                check_weights(batch, checked.arrays["weight"])
            if "date" in checked.arrays:
                check_dates(batch, checked.arrays["date"], self.options.today)
            for column, builder in builders.items():
                builder.append(checked.columns[column])
        self.rows[name] = opened.rows
        if opened.whole:
            self.whole.add(name)
        return (
            {column: builder.build() for column, builder in builders.items()} if opened.rows else {}
        )
