"""What a label cache is: the one contract every store keeps."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Protocol

import numpy as np

from models.labels import LABELS
from models.member import Probabilities
from models.pairs import Pairs

# Four little-endian float32 per pair: exactly what the ensemble returned, so that a cached answer
# equals a fresh one to the last bit. Half the width would move probabilities by up to 0.0005, and
# labels with them; the key and what a store needs around it weigh more than the eight bytes saved.
_NUMBER: Final = np.dtype("<f4")
ANSWER_BYTES: Final = len(LABELS) * _NUMBER.itemsize
_RELEASE_BYTES: Final = 8
# Four float32 that are rounded one by one are this near to one, with room.
_SUM_TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class CacheHealth:
    """How a label cache fares."""

    store: str  # memory, sqlite or redis
    healthy: bool  # whether the last thing asked of it worked
    troubles: int  # operations that failed since the start; each counts as a miss or a lost write


class LabelCache(Protocol):
    """Remembers answers by key for a time, as long as there is room.

    A cache may forget anything at any time, and never raises: a store in trouble knows nothing
    and keeps nothing, and says so in its health. What it does return is what was put under that
    very key. One call costs one round trip, however many keys.
    """

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """What is known of `keys`; absent and expired ones are left out."""
        ...

    async def put_many(self, answers: Mapping[bytes, bytes]) -> None:
        """Remember `answers`, in place of what was known under their keys."""
        ...

    def health(self) -> CacheHealth:
        """How the store fares; asks it nothing."""
        ...

    async def close(self) -> None:
        """Let go of files and connections."""
        ...


def label_keys(release_id: str, pairs: Pairs) -> list[bytes]:
    """A key per pair: no release reads another one's labels, no changed text an old answer.

    Eight bytes say the release and sixteen the pair, so that what belongs to a release can be told
    by the start of its keys.
    """
    release = blake2b(release_id.encode(), digest_size=_RELEASE_BYTES).digest()
    return [release + fingerprint for fingerprint in pairs.fingerprints()]


def keys_amid(keys: Sequence[bytes], editions: Mapping[str, str]) -> Sequence[bytes]:
    """`keys` of answers that were made of these editions of stored states, by member.

    Eight more bytes between the release and the pair say which, so that labels of another edition
    are out of reach, and age. Where nothing is stored for any member the keys stay as they are.
    """
    if not editions:
        return keys
    said = json.dumps(sorted(editions.items())).encode()
    states = blake2b(said, digest_size=8).digest()
    return [key[:_RELEASE_BYTES] + states + key[_RELEASE_BYTES:] for key in keys]


def pack(answers: Probabilities) -> list[bytes]:
    """What to store for each row of `answers`."""
    data = answers.astype(_NUMBER).tobytes()
    return [data[start : start + ANSWER_BYTES] for start in range(0, len(data), ANSWER_BYTES)]


def unpack(stored: Sequence[bytes]) -> Probabilities:
    """The rows that were packed."""
    rows = np.frombuffer(b"".join(stored), _NUMBER).reshape(-1, len(LABELS))
    return rows.astype(np.float32)


def sound(known: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What of `known` may have been packed here: others can write to a store, and disks err."""
    keys = [key for key, answer in known.items() if len(answer) == ANSWER_BYTES]
    rows = unpack([known[key] for key in keys]).astype(np.float64)
    proper = (rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) < _SUM_TOLERANCE)
    return {key: known[key] for key, good in zip(keys, proper.tolist(), strict=True) if good}


def lifetime(key: bytes, ttl_seconds: float) -> float:
    """Seconds to keep `key`: up to a tenth less than the TTL, by the key's last two bytes.

    What was computed together would otherwise expire together, and be computed again at once.
    """
    return ttl_seconds * (1 - 0.1 * int.from_bytes(key[-2:], "big") / 65_536)
