"""The cosines of judged pairs by trained members, and whether one threshold on them serves all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.errors import ConfigError, DataError
from models.files import file_sha256
from models.judge.verdict import OpisVerdict, Terms
from models.language.metric.consistency import DISTANCE, embedding_consistency
from models.pairs import Pairs
from models.vectors.embedder import EmbeddingMember
from models.vectors.shelf import Shelf
from models.workbench import Standing
from pipelines.console import Watch, unwatched
from pipelines.dataset.layout import EXAMPLES_FILE
from pipelines.dataset.read import Judgements, fingerprint, read_judgements
from pipelines.judging.judged import TEST, TRAIN, JudgedSplit, read_judged
from pipelines.trained import Trained, find_trained, open_embedder
from pipelines.training.run import VALIDATION
from pipelines.training.sides import sides

FORMAT: Final = 1
SPLITS: Final = (TEST, VALIDATION, TRAIN)
_LEARNED: Final = (
    "The training split is what members learn from: what is found here says how well they fit it, "
    "and not how they do on queries that are new to them."
)


@dataclass(frozen=True)
class EmbeddingOf:
    """A member by the folder it is asked for in."""

    folder: Path
    member: str | None = None  # its name there, where there are several


@dataclass(frozen=True)
class EmbeddingVerdict:
    """OPIS of an embedding by every grouping."""

    system: str
    against: str | None
    pairs: int
    queries: int
    opis: Sequence[OpisVerdict]  # thresholds are cosines
    terms: Terms
    about: Mapping[str, Any]  # which data and which members
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """The verdict as one JSON document."""
        terms = self.terms.to_json()
        return {
            "format": FORMAT,
            "system": self.system,
            "against": self.against,
            **self.about,
            "notes": list(self.notes),
            "terms": {
                "opis": {**terms["opis"], "distance": DISTANCE, "range_and_thresholds": "cosines"},
                "intervals": terms["intervals"],
                "test": terms["test"],
            },
            "opis": [found.to_json() for found in self.opis],
        }


def judge_embedding(
    first: EmbeddingOf,
    data: Path,
    split: str,
    by: Sequence[str],
    terms: Terms,
    *,
    against: EmbeddingOf | None = None,
    vectors: Path | None = None,
    watch: Watch = unwatched,
) -> EmbeddingVerdict:
    """OPIS of the cosines that a trained member gives the judged pairs of a split.

    The validation split is that of the run in the first folder, which must be of the same data;
    another member must come of a run that held out the same queries.
    Product vectors are looked up in `vectors`, or else made anew and forgotten.
    """
    trained = find_trained(first.folder)
    member = open_embedder(trained, first.member)
    rival = find_trained(against.folder) if against else None
    other = open_embedder(rival, against.member) if against and rival else None
    part, pairs = _read(data, split, by, [one for one in (trained, rival) if one])
    cosines = _cosines(member, pairs, vectors, watch)
    others = _cosines(other, pairs, vectors, watch) if other else None
    # Its matrix products are small: more threads gain nothing, and cost fourfold on busy cores.
    with threadpool_limits(1):
        opis = embedding_consistency(cosines, part.judged, part.opis_by, terms, others)
    name, other_name = member.name, other.name if other else None
    if against and name == other_name:
        name, other_name = (f"{one.folder} {name}" for one in (first, against))
    return EmbeddingVerdict(
        system=name,
        against=other_name,
        pairs=len(part.judged),
        queries=part.judged.query_count,
        opis=opis,
        terms=terms,
        about={
            "data": {
                "path": str(data),
                "examples_sha256": file_sha256(data / EXAMPLES_FILE),
                "split": split,
                "judged_pairs": len(part.judged),
            },
            "embedding": _about(first, member),
            "against_embedding": _about(against, other) if against and other else None,
        },
        notes=[*part.notes, *([_LEARNED] if split == TRAIN else [])],
    )


def _about(asked: EmbeddingOf, member: EmbeddingMember) -> dict[str, str]:
    """Which member it was, also when another lies in its folder."""
    return {
        "path": str(asked.folder),
        "member": member.name,
        "vectors": member.vectors_identity(),
    }


def _read(
    data: Path, split: str, by: Sequence[str], compared: Sequence[Trained]
) -> tuple[JudgedSplit, Pairs]:
    """The judged pairs of a split, for the judge and, in the same order, with their texts."""
    if split not in SPLITS:
        raise ConfigError(f"no split {split!r}; expected one of {', '.join(SPLITS)}")
    if split == VALIDATION:
        judgements = _validation(data, compared)
        part = read_judged(data, TRAIN, opis_by=by, only=judgements.example_ids)
    else:
        part = read_judged(data, split, opis_by=by)
        judgements = read_judgements(data, split="test" if split == TEST else "train")
    order = np.argsort(judgements.example_ids)
    rows = order[np.searchsorted(judgements.example_ids, part.example_ids, sorter=order)]
    return part, judgements.take(rows).pairs.without_labels()


def _validation(data: Path, compared: Sequence[Trained]) -> Judgements:
    """The judgements that none of the runs learned from, which have to be the same for all."""
    found, configs = fingerprint(data), []
    for trained in compared:
        if trained.run is None:
            raise ConfigError(
                f"{trained.folder} is no run, and only a run knows its validation queries; "
                "expected the folder of a run, or --split test"
            )
        if found != trained.run.data_fingerprint:
            raise DataError(
                f"{trained.folder} was trained on data with fingerprint "
                f"{trained.run.data_fingerprint} and {data} has {found}; name the folder it was "
                "trained on, or --split test"
            )
        configs.append(trained.run.config)
    shares = [f"seed {config.seed} and validation {config.validation}" for config in configs]
    if len(set(shares)) > 1:
        raise ConfigError(
            f"{compared[0].folder} held out queries by {shares[0]} and {compared[1].folder} by "
            f"{shares[1]}, so that each learned from some that the other did not; expected two "
            "runs of the same, or --split test"
        )
    judgements = read_judgements(data)
    return judgements.take(sides(judgements, configs[0]).validation)


def _cosines(
    member: EmbeddingMember, pairs: Pairs, vectors: Path | None, watch: Watch
) -> NDArray[np.float32]:
    """The cosine of each pair."""
    if vectors:
        return member.with_vectors(Shelf(vectors).get(member)).similarities(pairs)
    products = pairs.compact().products
    with (
        TemporaryDirectory(prefix="vectors-") as scratch,
        watch(f"vectors of {member.name}") as say,
    ):
        store = member.precompute(
            products, Path(scratch), lambda done, total: say(Standing(done, total))
        )
        return member.with_vectors(store).similarities(pairs)
