"""The predictions file: one Parquet row per judged pair, with four probabilities or four logits.

Columns are `example_id` and one of

- `p_E, p_S, p_C, p_I`: probabilities;
- `l_E, l_S, l_C, l_I`: logits;
- `NAME:E, NAME:S, NAME:C, NAME:I`: logits of the member NAME, as out-of-fold files hold them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import DataError, MissingDataError
from models.files import atomic_file
from models.labels import LABELS
from models.member import Logits, Probabilities, softmax

ID: Final = "example_id"
PROBABILITY_PREFIX: Final = "p_"
LOGIT_PREFIX: Final = "l_"
# In place of ".parquet": what the judge says of predictions, left beside them.
VERDICT_SUFFIX: Final = ".judge.json"

# How far a row may be from summing to one: more than rounding in half precision, less than a
# mistake. Rows within it are divided by their sum.
SUM_TOLERANCE: Final = 1e-2

_HOW: Final = f"write one with columns {ID}, {', '.join(f'p_{label}' for label in LABELS)}"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one system says, by example id."""

    example_ids: NDArray[np.int64]  # (pairs,)
    probabilities: Probabilities


def write_predictions(
    path: Path, example_ids: NDArray[np.integer[Any]], probabilities: Probabilities
) -> None:
    """Write probabilities; an interruption leaves no half file."""
    _write(path, example_ids, probabilities, PROBABILITY_PREFIX)


def write_logits(
    path: Path,
    example_ids: NDArray[np.integer[Any]],
    logits: Logits,
    member: str | None = None,
) -> None:
    """Write logits, under the name of `member` if there is one."""
    _write(path, example_ids, logits, f"{member}:" if member else LOGIT_PREFIX)


def read_predictions(path: Path, member: str | None = None) -> Predictions:
    """The predictions in a file, checked: finite, rows that sum to one, no id twice.

    `member` chooses among several members' logits.
    """
    if path.is_dir():
        # Of a run folder, the answers to the test split.
        within = sorted(path.glob("*.parquet")) or sorted(path.glob("test/*.parquet"))
        hint = f"did you mean {within[0]}?" if within else _HOW
        raise MissingDataError(f"{path} is a folder; expected a predictions file: {hint}")
    if not path.is_file():
        raise MissingDataError(f"{path} is not there; expected a predictions file: {_HOW}")
    try:
        names = pq.read_schema(path).names
        prefix = _prefix(path, names, member)
        columns = [prefix + label for label in LABELS]
        table = pq.read_table(path, columns=[ID, *columns])
        ids = _numbers(path, table, ID, pa.int64())
        scores = np.stack([_numbers(path, table, name, pa.float64()) for name in columns], axis=1)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as a predictions file: {error}; {_HOW}") from error
    _check_unique(path, ids)
    if (broken := ~np.isfinite(scores).all(axis=1)).any():
        raise DataError(
            f"{path} has {broken.sum():,} rows with a value that is not finite, the first for "
            f"{ID} {ids[broken.argmax()]}; every pair needs four finite numbers"
        )
    if prefix != PROBABILITY_PREFIX:
        return Predictions(ids, softmax(scores))
    return Predictions(ids, _checked_probabilities(path, ids, scores))


def align(
    path: Path,
    predictions: Predictions,
    wanted_ids: NDArray[np.int64],
    known_ids: NDArray[np.int64],
) -> Probabilities:
    """The probabilities of `wanted_ids`, in their order.

    Predictions of other ids in `known_ids` (another split of the same dataset) are passed over;
    an id that is not known at all means that the file belongs to another dataset.
    """
    order = np.argsort(predictions.example_ids, kind="stable")
    ids = predictions.example_ids[order]
    place = np.minimum(np.searchsorted(ids, wanted_ids), max(len(ids) - 1, 0))
    found = ids[place] == wanted_ids if len(ids) else np.zeros(len(wanted_ids), bool)
    foreign = ids[~np.isin(ids, known_ids)]
    if not found.all() or foreign.size:
        trouble, ways = [], ["predict the same dataset and split that --data and --split name"]
        if not found.all():
            trouble.append(
                f"{(~found).sum():,} of the {len(wanted_ids):,} judged pairs are missing "
                f"(the first is {ID} {wanted_ids[(~found).argmax()]})"
            )
            if len(foreign) < len(ids):
                ways.append(
                    "or judge only the pairs it holds with --only-predicted, and --split of those"
                )
        if foreign.size:
            trouble.append(
                f"{foreign.size:,} of its {len(ids):,} rows are of pairs that the dataset lacks "
                f"(the first is {ID} {foreign[0]})"
            )
        raise DataError(
            f"{path} does not fit the dataset: {'; '.join(trouble)}; expected exactly one row per "
            f"judged pair: {', '.join(ways)}"
        )
    return predictions.probabilities[order[place]]


def _write(
    path: Path, example_ids: NDArray[np.integer[Any]], scores: NDArray[Any], prefix: str
) -> None:
    if scores.shape != (len(example_ids), len(LABELS)):
        raise DataError(
            f"predictions of shape {scores.shape} for {len(example_ids)} example ids; "
            f"expected ({len(example_ids)}, {len(LABELS)})"
        )
    _check_unique(path, example_ids)
    columns = {prefix + label: scores[:, code] for code, label in enumerate(LABELS)}
    table = pa.table(
        {
            ID: pa.array(example_ids, pa.int64()),
            **{name: pa.array(np.asarray(values, np.float32)) for name, values in columns.items()},
        }
    )
    with atomic_file(path) as scratch:
        pq.write_table(table, scratch, compression="zstd")


def _prefix(path: Path, names: list[str], member: str | None) -> str:
    """What the four columns to read begin with."""
    last = LABELS[-1]
    complete = [
        name.removesuffix(last)
        for name in names
        if name.endswith((f":{last}", PROBABILITY_PREFIX + last, LOGIT_PREFIX + last))
        and {name.removesuffix(last) + label for label in LABELS} <= set(names)
    ]
    members = [prefix.removesuffix(":") for prefix in complete if prefix.endswith(":")]
    unnamed = [prefix for prefix in complete if not prefix.endswith(":")]
    if ID not in names or not complete:
        raise DataError(f"{path} has columns {', '.join(names)}; {_HOW}")
    if member is not None:
        if member not in members:
            raise DataError(
                f"{path} has no logits of member {member!r}; it has those of: "
                f"{', '.join(members) or 'no named member'}"
            )
        return f"{member}:"
    if len(complete) > 1:
        ways = [f"name a member ({', '.join(members)}) with --member"] if members else []
        ways += [f"keep only the columns {prefix}*" for prefix in unnamed]
        raise DataError(
            f"{path} holds more than one system: {', '.join(f'{p}*' for p in complete)}; "
            f"{', or '.join(ways)}"
        )
    return complete[0]


def _numbers(path: Path, table: pa.Table, name: str, kind: pa.DataType) -> NDArray[Any]:
    column = table.column(name)
    if column.null_count:
        raise DataError(f"{path} has {column.null_count:,} rows without {name}; fill or drop them")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataError(f"{path} column {name} holds {column.type}; expected {kind}")
    return np.asarray(column.cast(kind))


def _check_unique(path: Path, ids: NDArray[np.integer[Any]]) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (repeated := counts > 1).any():
        raise DataError(
            f"{path} has {repeated.sum():,} example ids more than once, the first is "
            f"{values[repeated][0]}; keep one row per pair"
        )


def _checked_probabilities(
    path: Path, ids: NDArray[np.int64], scores: NDArray[np.float64]
) -> Probabilities:
    totals = scores.sum(axis=1)
    bad = (np.abs(totals - 1) > SUM_TOLERANCE) | (scores < 0).any(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{path} has {bad.sum():,} rows that are no probabilities; the first, {ID} {ids[row]}, "
            f"is {scores[row].tolist()} with sum {totals[row]:.4f}; expected four numbers of at "
            f"least 0 that sum to 1 (for logits name the columns {LOGIT_PREFIX}E, ...)"
        )
    return np.asarray(scores / totals[:, None], np.float32)
