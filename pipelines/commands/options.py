"""Options that several verbs take, in the same words."""

from typing import Annotated, TypeAlias

import typer

from pipelines.training.threads import VARIABLE

Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(
        envvar=VARIABLE,
        help="Threads to compute with; every core we may use without it, so name fewer where "
        "others work on the machine too.",
    ),
]
Resamples: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Resamples of queries behind the intervals.")
]
Permutations: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Permutations behind the p-values.")
]
JudgeSeed: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Seed of resamples and permutations.")
]
Epsilon: TypeAlias = Annotated[
    float, typer.Option(help="Share of worst classes in epsilon-OPIS, between 0 and 1.")
]
OpisFar: TypeAlias = Annotated[
    str, typer.Option(help="Shares of negatives accepted at the ends of the threshold range.")
]
