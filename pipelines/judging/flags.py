"""What a person types as flags of `esci evaluate`, as terms of the judge or an error of ours."""

from typing import get_args

from models.errors import ConfigError
from models.judge.consistency import ConsistencyTerms
from models.labels import LABELS, Label


def consistency_terms(positives: str, negatives: str, far: str, epsilon: float) -> ConsistencyTerms:
    """The terms of OPIS; labels and rates are lists with commas."""
    return ConsistencyTerms(
        positives=_labels("--opis-positives", positives),
        negatives=_labels("--opis-negatives", negatives),
        far=_rates("--opis-far", far),
        epsilon=epsilon,
    )


def _labels(flag: str, words: str) -> tuple[Label, ...]:
    given = [word.strip() for word in words.split(",")]
    if unknown := [word for word in given if word not in LABELS]:
        raise ConfigError(
            f"{flag} {words!r} names {unknown[0]!r}; expected labels among {', '.join(LABELS)}, "
            "with commas between them, such as E,S"
        )
    return tuple(label for label in get_args(Label) if label in given)


def _rates(flag: str, words: str) -> tuple[float, float]:
    try:
        low, high = (float(word) for word in words.split(","))
    except ValueError as error:
        raise ConfigError(
            f"{flag} is {words!r}; expected two shares with a comma between them, such as 0.01,0.1"
        ) from error
    return low, high
