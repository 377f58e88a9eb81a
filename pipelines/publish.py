"""From a run folder to a release in a registry, with the judge's word on it.

Members have chosen their penalties on the validation queries, so the numbers there flatter a
little; those of the test split do not.
"""

from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.ensemble import Ensemble
from models.errors import ConfigError, DataError
from models.judge.judge import judge
from models.judge.judged import Judged, System
from models.labels import LABELS, Codes
from models.release import load_release, write_release
from models.release_registry import ReleaseRegistry
from models.text import product_text
from models.typed import plain
from pipelines.config import TrainConfig
from pipelines.dataset.read import Judgements, fingerprint, read_judgements
from pipelines.training.run import TEST, VALIDATION, read_run
from pipelines.training.sides import sides

# Probes cost time at every start; a dozen over all locales and labels show a wrong weight.
PROBES: Final = 12


def check_publishable(config: TrainConfig) -> None:
    """Refuse what could not be published once it is trained."""
    if (count := len(config.members)) != 1:
        raise ConfigError(
            f"found {count} members to publish; a release of several needs an aggregator over "
            "them, so expected one member: train them without --publish, or configure one alone"
        )


def publish(run_folder: Path, data: Path, registry: ReleaseRegistry) -> Path:
    """Write the run's members as a release and make it the champion; returns its folder."""
    run, members = read_run(run_folder)
    check_publishable(run.config)
    if (found := fingerprint(data)) != run.data_fingerprint:
        raise DataError(
            f"{run_folder} was trained on data with fingerprint {run.data_fingerprint} and {data} "
            f"has {found}; name the folder it was trained on, or train again"
        )
    ensemble = Ensemble([member for _, member in members])
    judgements = read_judgements(data)
    rows = sides(judgements, run.config)
    validation, test = judgements.take(rows.validation), judgements.take(rows.test)
    taught = judgements.take(rows.train).pairs.labels
    metrics = {VALIDATION: headline(validation, ensemble, taught)}
    if len(test):
        metrics[TEST] = headline(test, ensemble, taught)
    folder = write_release(
        registry.releases,
        members,
        validation.pairs.take(probe_rows(validation)).without_labels(),
        metrics=metrics,
        configuration=plain(run.config),
        versions=run.versions,
        data_fingerprint=run.data_fingerprint,
    )
    load_release(folder)  # what the service will do: a release it would refuse is no champion
    registry.set_champion(folder.name)
    return folder


def headline(judgements: Judgements, ensemble: Ensemble, taught: Codes) -> dict[str, Any]:
    """The judge's metrics over `judgements` with intervals, and the majority row beside them."""
    pairs = judgements.pairs
    queries = pairs.queries.text_codes()[pairs.query_rows]
    judged = Judged.of(pairs.labels, queries, pairs.query_rows)
    answers = System.of("ensemble", ensemble.predict(pairs.without_labels()))
    # One thread is as fast on an idle machine, and several times faster on a busy one.
    with threadpool_limits(1):
        whole = judge(judged, answers, training_labels=taught).whole
    return {
        "pairs": whole.pairs,
        "queries": whole.queries,
        "metrics": {name: found.to_json() for name, found in whole.metrics.items()},
        "majority": {name: found.to_json() for name, found in whole.majority.items()},
    }


def probe_rows(judgements: Judgements) -> NDArray[np.int64]:
    """A few rows that go round the locales and labels, always the same.

    A product without any text is passed over: the service refuses it.
    """
    kinds = judgements.pairs.locales() * len(LABELS) + judgements.pairs.labels
    rows = np.arange(len(judgements))
    # The first of each kind, then the second of each, and so on.
    order = np.lexsort((rows, kinds))
    starts = np.flatnonzero(np.diff(kinds[order], prepend=-1))
    turn = rows - np.repeat(starts, np.diff(starts, append=len(rows)))
    in_turn = order[np.lexsort((kinds[order], turn))]
    products = judgements.pairs.products
    told = (
        row
        for row in in_turn.tolist()
        if product_text(products.texts(judgements.pairs.product_rows[row]))
    )
    return np.fromiter(islice(told, PROBES), np.int64)
