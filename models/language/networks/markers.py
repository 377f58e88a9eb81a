"""Tokens that announce a product's fields, added to a pretrained tokenizer and its embeddings.

The tokenizer is the one that the backbone was trained with and stays it: a retrained one would
give its token ids to other words than the embeddings know.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import torch
from tokenizers import AddedToken, Tokenizer

from models.text import FIELD_MARKERS

# What a field is called in what backbones were trained on.
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "title": "title",
        "brand": "brand",
        "colour": "color",
        "bullets": "bullet points",
        "description": "description",
    }
)


def add_markers(tokenizer: Tokenizer, model: Any, fields: list[str]) -> dict[str, int]:
    """Field → id of its marker; those that the tokenizer lacks are added, to the model as well.

    A new marker begins as the mean of the words that name its field.
    """
    names = {field: FIELD_MARKERS[field] for field in fields}
    new = [field for field, name in names.items() if tokenizer.token_to_id(name) is None]
    tokenizer.add_special_tokens(
        [AddedToken(names[field], special=True, normalized=False) for field in new]
    )
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    ids = {field: vocabulary[name] for field, name in names.items()}
    rows = model.get_input_embeddings().weight.shape[0]
    if (needed := max(ids.values()) + 1) > rows:
        with torch.random.fork_rng(devices=[]):  # draws numbers that are overwritten below
            model.resize_token_embeddings(needed, mean_resizing=False)
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        for field in new:
            words = tokenizer.encode(_WORDS[field], add_special_tokens=False).ids
            table[ids[field]] = table[words].mean(dim=0) if words else table[:rows].mean(dim=0)
    return ids
