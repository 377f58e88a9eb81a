"""Which tokens of a batch are to be guessed, and what is shown in their places.

Devlin et al., "BERT", NAACL 2019: of the chosen tokens 80 % are shown as the mask, 10 % as any
token and 10 % as they are; dynamic as in RoBERTa: chosen anew each time.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final, Self

import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.errors import MemberError
from models.language.pretraining.options import MaskingOptions

_MASKS: Final = ("[MASK]", "<mask>")
# How the families of tokenizers write that a piece goes on within a word, or begins one.
_INSIDE: Final = "##"
_BEGINS: Final = ("\u2581", "\u0120")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What masking has to know of each token; flags have one entry per id."""

    mask_id: int
    is_special: Tensor
    begins_word: Tensor

    @classmethod
    def of(cls, tokenizer: Tokenizer, rows: int) -> Self:
        """The vocabulary of `tokenizer` for a model with `rows` token vectors."""
        ids = tokenizer.get_vocab(with_added_tokens=True)
        mask = next((ids[name] for name in _MASKS if name in ids), None)
        if mask is None:
            raise MemberError(
                f"the tokenizer has no token to mask with ({' or '.join(_MASKS)}); expected that "
                "of a model made by masked-language modelling: use the objective contrastive"
            )
        # Ids without a token are never shown in the place of one.
        is_special = torch.ones(rows, dtype=torch.bool)
        begins = torch.zeros(rows, dtype=torch.bool)
        way = _way_of_writing(ids)
        for token, at in ids.items():
            is_special[at] = False
            begins[at] = not token.startswith(_INSIDE) if way == _INSIDE else token[:1] == way
        for at, added in tokenizer.get_added_tokens_decoder().items():
            is_special[at] |= added.special
        return cls(mask, is_special, begins)


def _way_of_writing(ids: dict[str, int]) -> str:
    """What most tokens that show it begin with."""
    counts = Counter(
        _INSIDE if token.startswith(_INSIDE) else token[0]
        for token in ids
        if token.startswith((_INSIDE, *_BEGINS))
    )
    return counts.most_common(1)[0][0] if counts else _INSIDE


def choose(
    ids: Tensor,
    mask: Tensor,
    vocabulary: Vocabulary,
    options: MaskingOptions,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Which tokens of `ids` (texts, length) are to be guessed; never special ones or padding.

    Every word is chosen with the probability `share`. A text in which none was has one chosen: most
    queries are too short to wait for.
    """
    special = vocabulary.is_special[ids] | (mask == 0)
    begins = special.clone()
    if options.whole_words:
        begins |= vocabulary.begins_word[ids]
        begins[:, 0] = True
        begins[:, 1:] |= special[:, :-1]  # some tokenizers mark no first word
    else:
        begins[:] = True
    word = begins.cumsum(dim=1) - 1
    drawn = torch.rand(ids.shape, generator=generator).gather(1, word)
    drawn = drawn.masked_fill(special, 2.0)
    least = drawn.min(dim=1, keepdim=True).values
    return (drawn < options.share) | ((drawn == least) & (least < 2.0))


def corrupted(
    ids: Tensor,
    chosen: Tensor,
    vocabulary: Vocabulary,
    options: MaskingOptions,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`ids` with what is shown in the places of those `chosen`."""
    ordinary = torch.nonzero(~vocabulary.is_special).squeeze(1)
    others = ordinary[torch.randint(len(ordinary), ids.shape, generator=generator)]
    drawn = torch.rand(ids.shape, generator=generator)
    shown = torch.where(chosen & (drawn < options.masked), vocabulary.mask_id, ids)
    replaced = chosen & (drawn >= options.masked) & (drawn < options.masked + options.replaced)
    return torch.where(replaced, others, shown)
