"""`models.text.normalise`, `fold` and blankness for millions of texts at once.

Plain ASCII, most of what customers type, goes through Arrow's kernels; everything else goes
through `models.text` text by text, so both give what `models.text` gives.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.text import fold, normalise

# A text that begins so is never blank, whatever follows: neither HTML nor an entity nor invisible.
_VISIBLE_START: Final = r"^(?:[!-%'-;=-~]|\p{L}|\p{N})"
# In plain ASCII these and nothing else are what `normalise` changes.
_UNEVEN: Final = r"[\x00-\x1f\x7f]|  |^ | $"
_GAPS: Final = r"[\x00-\x20\x7f]+"


def normalise_all(texts: pa.Array) -> pa.Array:
    """`normalise` of every text, as large_string; a null stays one."""
    texts = texts.cast(pa.large_string())
    plain = _plain(texts)
    evened = pc.if_else(plain, texts, None)
    uneven = pc.fill_null(pc.match_substring_regex(evened, _UNEVEN), False)
    if pc.any(uneven).as_py():
        even = pc.replace_substring_regex(evened.filter(uneven), _GAPS, " ")
        evened = pc.replace_with_mask(evened, uneven, pc.ascii_trim(even, " "))
    return _one_by_one(evened, plain, texts, normalise)


def fold_all(texts: pa.Array) -> pa.Array:
    """`fold` of every text, as large_string; a null stays one."""
    texts = normalise_all(texts)  # folding begins with it, so folding its result is the same
    plain = _plain(texts)
    return _one_by_one(pc.ascii_lower(pc.if_else(plain, texts, None)), plain, texts, fold)


def _plain(texts: pa.Array) -> pa.Array:
    """Whether a text is ASCII in which no HTML can hide."""
    return pc.and_(pc.string_is_ascii(texts), pc.invert(pc.match_substring_regex(texts, "[<&]")))


def _one_by_one(
    done: pa.Array, plain: pa.Array, texts: pa.Array, function: Callable[[str], str]
) -> pa.Array:
    """`done` where a text is plain, `function` of the text elsewhere."""
    slow = pc.fill_null(pc.invert(plain), False)
    if not pc.any(slow).as_py():
        return done
    by_hand = [function(text) for text in texts.filter(slow).to_pylist()]
    return pc.replace_with_mask(done, slow, pa.array(by_hand, pa.large_string()))


def blank(texts: pa.Array) -> NDArray[np.bool_]:
    """Whether nothing is left of each text after `normalise`; a null is blank."""
    visible = pc.fill_null(pc.match_substring_regex(texts, _VISIBLE_START), False)
    is_blank = ~np.asarray(visible)
    for row in np.flatnonzero(is_blank & np.asarray(texts.is_valid())):
        is_blank[row] = not normalise(texts[int(row)].as_py())
    return is_blank
