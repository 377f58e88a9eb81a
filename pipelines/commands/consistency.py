"""`esci consistency`: does one threshold on the similarity of a bi-encoder serve all alike?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from models.files import write_json
from models.judge.resample import LEVEL
from models.judge.verdict import Terms
from pipelines.commands.options import Epsilon, JudgeSeed, OpisFar, Permutations, Resamples
from pipelines.console import note, out, print_json, watched
from pipelines.judging.flags import consistency_terms
from pipelines.judging.folders import check_folder
from pipelines.judging.tables import opis_comparison, opis_table
from pipelines.training.threads import VARIABLE, choose_threads, threads_limited

if TYPE_CHECKING:
    from pipelines.judging.embedding import EmbeddingVerdict


def consistency(
    folder: Annotated[
        Path,
        typer.Argument(help="A run, a release, a registry, or the folder of one bi-encoder."),
    ],
    data: Annotated[Path, typer.Option(help="Dataset folder with the labels.")],
    split: Annotated[
        str, typer.Option(help="test, train, or validation: those queries of a run.")
    ] = "test",
    member: Annotated[
        str | None, typer.Option(help="Which member, when there are several bi-encoders.")
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(help="Where esci precompute stored product vectors, of the other one too."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another such folder, to compare with.")
    ] = None,
    against_member: Annotated[str | None, typer.Option(help="Which member there.")] = None,
    opis_by: Annotated[
        list[str] | None,
        typer.Option(
            help="Classes: query, locale, source or a column of the examples. Repeatable; else "
            "query and locale."
        ),
    ] = None,
    epsilon: Epsilon = 0.1,
    opis_positives: Annotated[str, typer.Option(help="Labels that count as matches.")] = "E",
    opis_negatives: Annotated[
        str, typer.Option(help="Labels that count as no matches; others are passed over.")
    ] = "I",
    opis_far: OpisFar = "0.01,0.1",
    resamples: Resamples = 1000,
    permutations: Permutations = 1000,
    seed: JudgeSeed = 0,
    threads: Annotated[
        int | None,
        typer.Option(envvar=VARIABLE, help="Threads to compute with; every core without it."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for consistency.json and consistency.png."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Tell whether one threshold on a bi-encoder's similarity means the same for every query.

    OPIS, the metric that the TCM loss is for: how far the utility curves of classes (queries,
    locales, or what a column says) lie apart over the thresholds that let 1 % to 10 % of all
    negatives pass. 0 is best. Utility is the harmonic mean of the share of a class's positives at
    or above the threshold and the share of its negatives below; distances are those of unit
    vectors, sqrt(2 - 2 cosine). The OPIS of probabilities is [bold]esci evaluate[/]'s to tell.

    [bold]esci consistency runs/first --data data --out seen[/]

    judges the test split and leaves its numbers and a picture of the curves in seen/. Add

    [bold]--against runs/without-tcm[/]

    to see what a change of the training brought, with intervals and p-values on the same queries.
    Where most queries have but a few products, look at locales or sources rather than at queries.
    The picture calls a class that its font cannot write by its place in the JSON, as in shown[0].
    """
    if to is not None:
        check_folder(to, data)
    terms = Terms(
        resamples=resamples,
        permutations=permutations,
        seed=seed,
        consistency=consistency_terms(opis_positives, opis_negatives, opis_far, epsilon),
    )
    # Here, so that the help need not wait for the engines.
    from pipelines.judging.embedding import EmbeddingOf, judge_embedding

    with threads_limited(choose_threads(threads)):
        verdict = judge_embedding(
            EmbeddingOf(folder, member),
            data,
            split,
            opis_by or ["query", "locale"],
            terms,
            against=EmbeddingOf(against, against_member) if against else None,
            vectors=vectors,
            watch=watched,
        )
    document = verdict.to_json()
    if to is not None:
        _save(verdict, document, to)
    if json:
        print_json(document)
        return
    counts = f"{verdict.pairs:,} judged pairs of {verdict.queries:,} queries"
    out.print(Text(f"{verdict.system}: {counts}"), "")
    for found in verdict.opis:
        out.print(opis_table(found, terms.consistency, "cosine"), "")
    if verdict.against:
        out.print(opis_comparison(verdict.system, verdict.against, verdict.opis, terms), "")
    notes = [
        f"In brackets: {LEVEL:.0%} interval from {resamples:,} resamples of queries (seed {seed}). "
        "†: grows under any noise, also under resampling; the interval sits too high.",
        *verdict.notes,
    ]
    for line in notes:
        out.print(line, markup=False, style="dim")


def _save(verdict: "EmbeddingVerdict", document: dict[str, Any], folder: Path) -> None:
    from pipelines.judging.picture import draw_opis

    write_json(folder / "consistency.json", document)
    written = str(folder / "consistency.json")
    if drawn := [found for found in verdict.opis if not found.undefined]:
        draw_opis(drawn, verdict.system, "cosine", folder / "consistency.png")
        written += f" and {folder / 'consistency.png'}"
    note(f"wrote {written}")
