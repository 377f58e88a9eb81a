"""Members and what combines them, answering pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import ReleaseError
from models.labels import LABELS
from models.member import Logits, Member, Probabilities, softmax
from models.pairs import Pairs


@dataclass(frozen=True)
class Ensemble:
    """Members in the order their columns take.

    An ensemble of one needs nothing to combine: its probabilities are the softmax of its member's
    logits. More members need an aggregator, and a release without one is refused.
    """

    members: Sequence[Member]

    def __post_init__(self) -> None:
        if len(self.members) != 1:
            raise ReleaseError(
                f"found {len(self.members)} members and no aggregator; "
                "expected one member, or an aggregator trained on all of them"
            )

    @property
    def members_used(self) -> tuple[str, ...]:
        """Names of the members behind every answer."""
        return tuple(member.name for member in self.members)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the logit columns, in order."""
        return tuple(f"{member.name}:{label}" for member in self.members for label in LABELS)

    def predict_logits(self, pairs: Pairs) -> Mapping[str, Logits]:
        """The logits of every member by name."""
        return {member.name: member.predict_logits(pairs) for member in self.members}

    def predict(self, pairs: Pairs) -> Probabilities:
        """Probabilities per pair, shape (pairs, 4); a pair's row depends on that pair alone."""
        if not len(pairs):
            return np.empty((0, len(LABELS)), np.float32)
        return softmax(self.members[0].predict_logits(pairs))
