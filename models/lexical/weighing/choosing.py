"""Chooses penalties by log-loss on validation pairs, and says what was tried."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np

from models.lexical.weighing.additive import AdditiveModel
from models.lexical.weighing.fitting import (
    Basis,
    Fit,
    Penalties,
    Sample,
    fit_additive,
    frequent_crosses,
    quantile_knots,
)
from models.lexical.weighing.options import LexicalOptions
from models.member import softmax


@dataclass(frozen=True, eq=False)
class Trial:
    """One choice of penalties and how it did."""

    penalties: Penalties
    log_loss: float
    fit: Fit

    def as_json(self) -> dict[str, float | None]:
        """The penalties and the log-loss; null for indicators left out, or no validation pairs."""
        numbers = {**asdict(self.penalties), "log_loss": self.log_loss}
        return {name: float(x) if np.isfinite(x) else None for name, x in numbers.items()}


def choose_model(
    train: Sample, valid: Sample, options: LexicalOptions
) -> tuple[AdditiveModel, list[Trial]]:
    """The model of least log-loss on `valid`, and every trial.

    Curves are chosen first and indicators added to the best, if they help. Where trials are equal,
    as they all are without validation pairs, the most cautious wins.
    """
    basis = Basis(quantile_knots(train.features, options.knots), train.features)
    crosses = frequent_crosses(train, options.cross_queries)

    def attempt(penalties: Penalties, near: Trial | None) -> Trial:
        fit = fit_additive(train, basis, crosses, penalties, near.fit if near else None)
        return Trial(penalties, log_loss(fit.model, valid), fit)

    strongest = sorted(options.penalties, reverse=True)
    curves = [
        Penalties(curve, options.bend_penalty, options.locale_penalty, np.inf)
        for curve in strongest
    ]
    trials = _descend(attempt, curves)
    if len(crosses) and options.cross_penalties:
        best = _least(trials)
        strongest = sorted(options.cross_penalties, reverse=True)
        indicators = [replace(best.penalties, cross=cross) for cross in strongest]
        trials += _descend(attempt, indicators, best)
    return _least(trials).fit.model, trials


def _descend(
    attempt: Callable[[Penalties, Trial | None], Trial],
    candidates: Iterable[Penalties],
    near: Trial | None = None,
) -> list[Trial]:
    """Trials from the strongest penalties to weaker ones, until those are worse twice running."""
    trials: list[Trial] = []
    for candidate in candidates:
        near = attempt(candidate, near)
        trials.append(near)
        if len(trials) >= 3 and trials[-3].log_loss < min(trials[-2].log_loss, near.log_loss):
            break
    return trials


def _least(trials: list[Trial]) -> Trial:
    return min(trials, key=lambda trial: trial.log_loss)  # the first of equals


def log_loss(model: AdditiveModel, sample: Sample) -> float:
    """Mean negative log-probability of the labels; infinite without pairs."""
    if not len(sample):
        return np.inf
    logits = model.logits(sample.features, sample.locales, sample.crosses)
    right = softmax(logits)[np.arange(len(sample)), sample.labels]
    return float(-np.log(np.maximum(right, 1e-12)).mean())
