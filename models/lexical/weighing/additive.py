"""An additive model: each feature's piecewise-linear curve per label and locale, summed.

It is the multinomial logistic model of `fitting`, beside this file, in the form that answers:
curves as tables of their values at knots, which numpy looks up and a person can plot. Sums run
feature by feature in one order, so a pair has the same logits to the bit alone and in any batch.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.labels import LABELS
from models.lexical.matching.crosses import Crosses
from models.lexical.matching.pair_features import Features
from models.lexical.matching.ragged import sums
from models.lexical.reading.hashing import Hashes
from models.locales import LocaleCodes

Knots = NDArray[np.float64]
"""Shape (features, knots): increasing, then +inf where a feature has fewer."""

_PAIRS_AT_ONCE = 2048  # keeps (pairs, features, 4) in the cache


@dataclass(frozen=True, eq=False)
class AdditiveModel:
    """Logit of label c in locale l = Σ_f curve[l, f](x_f)[c] + Σ_i weight[cross_i, c]."""

    knots: Knots
    curves: NDArray[np.float64]  # (locales, features, knots, 4); intercepts in the first feature
    cross_hashes: Hashes  # (crosses,) sorted; none where indicators did not pay
    cross_weights: NDArray[np.float32]  # (crosses, 4)

    def logits(
        self, features: Features, locales: LocaleCodes, crosses: Crosses
    ) -> NDArray[np.float32]:
        """Logits of pairs in float32, shape (pairs, 4)."""
        starts = range(0, max(len(features), 1), _PAIRS_AT_ONCE)
        parts = [
            self._curves_at(
                features[start : start + _PAIRS_AT_ONCE], locales[start : start + _PAIRS_AT_ONCE]
            )
            for start in starts
        ]
        logits = np.concatenate(parts)
        if len(self.cross_hashes):
            last = len(self.cross_hashes) - 1
            at = np.minimum(np.searchsorted(self.cross_hashes, crosses.hash), last)
            known = self.cross_hashes[at] == crosses.hash
            at, owner = at[known], crosses.owner[known]
            for label in range(len(LABELS)):
                logits[:, label] += sums(self.cross_weights[at, label], owner, len(features))
        return logits.astype(np.float32)

    @cached_property
    def _steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Each segment's width, and its rise per label: (features, knots - 1), with a last axis."""
        with np.errstate(invalid="ignore"):
            widths = np.diff(self.knots, axis=1)
        widths = np.where(np.isfinite(widths), widths, 1.0)
        return widths, np.diff(self.curves, axis=2)

    def _curves_at(self, features: Features, locales: LocaleCodes) -> NDArray[np.float64]:
        widths, rises = self._steps
        values = features.astype(np.float64)
        feature = np.arange(values.shape[1])[None, :]
        segment = np.zeros(values.shape, np.int64)
        for knot in range(1, self.knots.shape[1] - 1):
            following = self.knots[:, knot + 1]  # the last knot of a feature begins no segment
            segment += (values >= self.knots[:, knot]) & np.isfinite(following)
        along = (values - self.knots[feature, segment]) / widths[feature, segment]
        along = np.clip(along, 0.0, 1.0)[:, :, None]
        locale = locales.astype(np.int64)[:, None]
        at = self.curves[locale, feature, segment] + along * rises[locale, feature, segment]
        return np.asarray(at.sum(axis=1))
