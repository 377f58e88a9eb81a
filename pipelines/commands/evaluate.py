"""`esci evaluate`: judge a predictions file against the labels of a dataset."""

from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.errors import ConfigError
from models.files import file_sha256, write_json
from models.judge.judge import judge, majority_of, majority_system
from models.judge.verdict import Terms, Verdict
from models.labels import DEFAULT_GAINS, GAIN_TABLES
from pipelines.commands.options import Epsilon, JudgeSeed, OpisFar, Permutations, Resamples
from pipelines.console import err, out, print_json
from pipelines.dataset.layout import EXAMPLES_FILE
from pipelines.judging.flags import consistency_terms
from pipelines.judging.folders import check_folder
from pipelines.judging.judged import read_judged
from pipelines.judging.systems import PredictionsFile, names_of
from pipelines.judging.tables import tables
from pipelines.predictions import VERDICT_SUFFIX

MAJORITY: Final = "majority"


def evaluate(
    predictions: Annotated[
        Path, typer.Argument(help="Parquet: example_id and p_E..p_I, l_E..l_I or MEMBER:E..I.")
    ],
    data: Annotated[Path, typer.Option(help="Dataset folder with the labels.")],
    split: Annotated[str, typer.Option(help="train, test or all.")] = "test",
    only_predicted: Annotated[
        bool,
        typer.Option(
            "--only-predicted",
            help="Judge only the pairs of the split that every given file predicts.",
        ),
    ] = False,
    member: Annotated[
        str | None, typer.Option(help="Which member, when the file holds several.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Another predictions file to compare with, or 'majority'."),
    ] = None,
    against_member: Annotated[
        str | None, typer.Option(help="Which member of the other file.")
    ] = None,
    gains: Annotated[
        str, typer.Option(help=f"Gain table of nDCG: {', '.join(GAIN_TABLES)}.")
    ] = DEFAULT_GAINS,
    resamples: Resamples = 1000,
    permutations: Permutations = 1000,
    seed: JudgeSeed = 0,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also slice by this column of the examples, or 'source'. Repeatable."),
    ] = None,
    opis_by: Annotated[
        list[str] | None,
        typer.Option(
            help="Classes of OPIS: query, locale or a column. Repeatable; else query and locale."
        ),
    ] = None,
    epsilon: Epsilon = 0.1,
    opis_positives: Annotated[
        str, typer.Option(help="Labels that OPIS takes as positive; distance 1 - P of them.")
    ] = "E",
    opis_negatives: Annotated[
        str, typer.Option(help="Labels that OPIS takes as negative; others are passed over.")
    ] = "I",
    opis_far: OpisFar = "0.01,0.1",
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for judge.json and judge.png; else FILE.judge.json is written."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Judge predictions: every metric with its interval, beside the majority row.

    [bold]esci evaluate lexical.parquet --data data/demo --out judged[/]

    judges the test split, prints the tables and leaves judge.json and judge.png in judged/. Add

    [bold]--against other.parquet[/]

    to compare two systems on the same pairs: each difference with its interval and p-value.

    [bold]esci evaluate run/validation.parquet --data data/demo --split train --only-predicted[/]

    judges the part of a split that was predicted, and says how large a part it is.
    """
    if folder is not None:
        check_folder(folder, data)
    if gains not in GAIN_TABLES:
        raise ConfigError(f"no gain table {gains!r}; known tables: {', '.join(GAIN_TABLES)}")
    if against_member is not None and against in (None, MAJORITY):
        raise ConfigError(
            f"--against-member {against_member} chooses within the file of --against, and "
            f"{'there is none' if against is None else 'the majority has no members'}; "
            "expected --against FILE with it"
        )
    terms = Terms(
        gains=gains,
        resamples=resamples,
        permutations=permutations,
        seed=seed,
        consistency=consistency_terms(opis_positives, opis_negatives, opis_far, epsilon),
    )
    first = PredictionsFile(predictions, member)
    second = None
    if against not in (None, MAJORITY):
        second = PredictionsFile(Path(against), against_member)
    part = read_judged(
        data,
        split,
        by or [],
        opis_by or ["query", "locale"],
        _predicted(first, second) if only_predicted else None,
    )
    name, other_name = names_of(first, second)
    system = first.system(part, name)
    other = second.system(part, other_name) if second else None
    if against == MAJORITY:
        other = majority_system(majority_of(part.judged, part.training_labels), len(part.judged))
    # Its matrix products are small: more threads gain nothing, and cost fourfold on busy cores.
    with threadpool_limits(1):
        verdict = judge(
            part.judged,
            system,
            against=other,
            training_labels=part.training_labels,
            slices=part.slices,
            opis_by=part.opis_by,
            terms=terms,
        )
    document = {
        # Only the examples: no product text is read, and gigabytes of it would be hashed in vain.
        "data": {
            "path": str(data),
            "examples_sha256": file_sha256(data / EXAMPLES_FILE),
            "split": split,
            "pairs": part.split_pairs,
            "judged_pairs": len(part.judged),
        },
        "predictions": first.to_json(),
        "against_predictions": second.to_json() if second else None,
        "only_predicted": only_predicted,
        "notes": list(part.notes),
        **verdict.to_json(),
    }
    _save(verdict, document, predictions, folder)
    if as_json:
        print_json(document)
        return
    for table in tables(verdict):
        out.print(table, "")
    for note in part.notes:
        out.print(note, markup=False, style="dim")


def _predicted(first: PredictionsFile, second: PredictionsFile | None) -> NDArray[np.int64]:
    """The example ids that every system predicts."""
    ids = first.predictions.example_ids
    return ids if second is None else np.intersect1d(ids, second.predictions.example_ids)


def _save(
    verdict: Verdict, document: dict[str, object], predictions: Path, folder: Path | None
) -> None:
    if folder is None:
        path = predictions.with_suffix(VERDICT_SUFFIX)
        write_json(path, document)
        err.print(f"wrote {path}", markup=False)
        return
    from pipelines.judging.picture import draw

    write_json(folder / "judge.json", document)
    draw(verdict, folder / "judge.png")
    err.print(f"wrote {folder / 'judge.json'} and {folder / 'judge.png'}", markup=False)
