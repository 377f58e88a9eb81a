"""What a token's surroundings make of it: denied, served by the product, or the thing itself."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.lexical.matching.ragged import Indptr, firsts, lasts, owners
from models.lexical.reading import tokens as t
from models.lexical.reading.hashing import Polynomials
from models.lexical.reading.tokens import Columns
from models.locales import LOCALES

# "no sugar added": a denial reaches as many content words as this.
_DENIED_WORDS: Final = 2
# Japanese names what is served before 用, as in スマホ ケース 用.
_SERVED_WORDS: Final = 2


@dataclass(frozen=True, eq=False)
class Stream:
    """The tokens of many texts, one after the other, with what their surroundings say."""

    indptr: Indptr
    owner: NDArray[np.int64]  # (tokens,) the text of each token
    columns: Columns
    content: NDArray[np.bool_]  # neither punctuation nor a function word
    denied: NDArray[np.bool_]  # "without X", "X free", Xなし
    served: NDArray[np.bool_]  # "for X", X用
    place: NDArray[np.int64]  # words before it in its text

    def flagged(self, flag: int) -> NDArray[np.bool_]:
        """Whether each token has any bit of `flag`."""
        return np.asarray((self.columns.flags & flag) != 0)


def read_stream(indptr: Indptr, columns: Columns) -> Stream:
    """The tokens of texts bounded by `indptr`, with their scopes."""
    flags, owner = columns.flags, owners(indptr)
    here = np.arange(len(flags))
    start = indptr[:-1][owner]

    def last(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Where `mask` last held in each token's text, itself included; before its start if not."""
        return np.maximum(np.maximum.accumulate(np.where(mask, here, -1)), start - 1)

    is_break = (flags & t.BREAK) != 0
    last_break = last(is_break)
    content = (flags & t.FUNCTION) == 0
    counted = np.cumsum(content)
    before = np.append(0, counted)  # content tokens before each position

    negator = last((flags & t.NEGATOR) != 0)
    by = np.maximum(negator, 0)
    reach = counted - before[by]
    # "no show socks": before anything is named, the thing itself is still to come.
    leads = before[by] == before[start]
    of_one = leads | ((flags[by] & t.NEGATOR_OF_ONE) != 0)
    denied = (negator > last_break) & (here > negator) & content
    denied &= reach <= np.where(of_one, 1, _DENIED_WORDS)
    denied |= (flags & t.NEGATED) != 0
    behind = (flags & t.NEGATED_BEFORE) != 0
    ending = _shifted((flags & t.HIRAGANA) != 0, owner, 1)  # 肘掛 け なし denies 肘掛 too
    denied |= (_shifted(behind, owner, 1) | (_shifted(behind, owner, 2) & ending)) & content

    served = (last((flags & t.FOR) != 0) > last_break) & content
    served |= (flags & t.SERVED) != 0
    behind = (flags & t.FOR_BEFORE) != 0
    for step in range(1, _SERVED_WORDS + 1):
        unbroken = _shifted(~is_break, owner, step - 1)
        served |= _shifted(behind, owner, step) & content & unbroken
    words = np.append(0, np.cumsum(~is_break))
    return Stream(indptr, owner, columns, content, denied, served, words[:-1] - words[start])


def _shifted(mask: NDArray[np.bool_], owner: NDArray[np.int64], step: int) -> NDArray[np.bool_]:
    """Whether `mask` holds `step` tokens further on in the same text."""
    found = np.zeros_like(mask)
    if step < len(mask):
        reach = len(mask) - step
        found[:reach] = mask[step:] & (owner[step:] == owner[:reach])
    return found


def denials(stream: Stream) -> tuple[NDArray[np.int64], Polynomials]:
    """The tokens that deny or are denied, in order, and the stem that the product must not have."""
    at = np.flatnonzero(stream.denied | (stream.columns.denies != 0))
    own = stream.columns.denies[at]
    return at, np.where(stream.denied[at], stream.columns.root[at], own)


def neighbours(stream: Stream) -> NDArray[np.int64]:
    """The tokens that are followed by another of their text, no punctuation between."""
    is_word = ~stream.flagged(t.BREAK)
    return np.flatnonzero(is_word & _shifted(is_word, stream.owner, 1))


def heads(stream: Stream, locales: NDArray[Any], unfit: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The token of each text that names the thing itself, or -1 in a text without content.

    English puts it last before a preposition ("usb desk LAMP with clip"), Spanish first, Japanese
    last. Tokens that are `unfit`, numbers, units, colours and sizes are passed over where others
    are left.
    """
    here = np.arange(len(stream.owner))
    ends = stream.flagged(t.BREAK | t.FOR | t.BOUNDARY | t.NEGATOR)
    # A boundary before any content, as in "for dogs: bowl", ends nothing.
    counted = np.append(0, np.cumsum(stream.content))
    begun = counted[:-1] > counted[stream.indptr[:-1]][stream.owner]
    end = firsts(np.where(ends & begun, here, len(here)), stream.indptr, len(here))
    named = stream.content & ~stream.denied & (here < end[stream.owner])
    kinds = t.NUMBER | t.UNIT | t.MODEL | t.COLOUR | t.SIZE | t.AUDIENCE
    best = named & ~unfit & ~stream.flagged(kinds)

    found = np.full(len(stream.indptr) - 1, -1, np.int64)
    is_spanish = locales == LOCALES.index("es")
    for eligible in (best, named, stream.content):
        first = firsts(np.where(eligible, here, len(here)), stream.indptr, len(here))
        first = np.where(first == len(here), -1, first)
        last = lasts(np.where(eligible, here, -1), stream.indptr, -1)
        found = np.where(found >= 0, found, np.where(is_spanish, first, last))
    return found
