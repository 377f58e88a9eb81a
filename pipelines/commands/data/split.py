"""`esci data split`: which fold each judgement belongs to, by query text."""

from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.table import Table

from models.files import atomic_file
from models.folds import pair_folds
from models.labels import LABELS
from pipelines.console import err, out, print_json
from pipelines.dataset.read import read_judgements
from pipelines.split import official_split, require_rows


def split(
    data: Annotated[Path, typer.Argument(help="A dataset folder.")],
    folds: Annotated[int, typer.Option(help="How many folds.")] = 5,
    seed: Annotated[int, typer.Option(help="Another seed, other folds.")] = 7,
    to: Annotated[
        Path | None,
        typer.Option(help="Write example_id and fold of every training judgement (Parquet)."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Assign the training judgements to folds by query text.

    No query text is in two folds, whatever its case, width or locale. Training rows whose query
    is also tested belong to no fold.

    Example: [bold]esci data split .esci/demo --folds 5 --to folds.parquet[/]
    """
    judgements = read_judgements(data)
    official = official_split(judgements)
    require_rows(official.train, "training")
    train = judgements.take(official.train)
    fold_of = pair_folds(train.pairs, folds, seed)
    if to:
        table = pa.table({"example_id": train.example_ids, "fold": fold_of})
        with atomic_file(to) as scratch:
            pq.write_table(table, scratch)
        err.print(f"wrote {len(table):,} rows to {to}")

    counts = np.zeros((folds, len(LABELS)), dtype=np.int64)
    np.add.at(counts, (fold_of, train.pairs.labels), 1)
    queries = [len(np.unique(train.query_ids[fold_of == fold])) for fold in range(folds)]
    if json:
        print_json(
            {
                "folds": [
                    {
                        "fold": fold,
                        "queries": queries[fold],
                        "labels": dict(zip(LABELS, row, strict=True)),
                    }
                    for fold, row in enumerate(counts.tolist())
                ],
                "test": len(official.test),
                "dropped": len(official.dropped),
            }
        )
        return
    table = Table("fold", "queries", "judgements", *LABELS, title=f"{folds} folds, seed {seed}")
    for fold, row in enumerate(counts.tolist()):
        table.add_row(str(fold), f"{queries[fold]:,}", f"{sum(row):,}", *(f"{n:,}" for n in row))
    out.print(table)
    out.print(
        f"{len(official.test):,} test judgements are in no fold; "
        f"{len(official.dropped):,} training judgements were dropped because their query is tested"
    )
