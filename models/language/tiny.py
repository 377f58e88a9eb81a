"""A small random transformer of a given architecture, with a tokenizer trained on the spot.

It proves plumbing and never quality: tests take every architecture through everything with one.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import models as pieces

from models.errors import ConfigError
from models.language.presets import TokenizerFamily

MOST_TOKENS: Final = 256
_VOCABULARY: Final = 800
_MOST_TEXTS: Final = 20_000
_MOST_WORDS: Final = 5_000
_LONGEST_PIECE: Final = 8
# So that any text in Latin letters is read as something, whatever the texts were.
_ALPHABET: Final = (
    "the quick brown fox jumps over a lazy dog",
    "title brand colour color bullet points description",
    "0123456789 0 1 2 3 4 5 6 7 8 9",
    " ".join("abcdefghijklmnopqrstuvwxyz"),
    " ".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "zyxwvutsrqponmlkjihgfedcba ZYXWVUTSRQPONMLKJIHGFEDCBA",
)
_BERT_PAIR: Final = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")


@dataclass(frozen=True)
class _Family:
    """What a family of models does to text."""

    tokenizer: TokenizerFamily
    specials: tuple[str, ...]  # in the order of their ids
    pad: str
    unknown: str
    template: tuple[str, str] | None  # of a text alone and of a pair
    lower_case: bool = False


_BIG_BIRD: Final = ("<pad>", "</s>", "<s>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
_FAMILIES: Final[Mapping[str, _Family]] = MappingProxyType(
    {
        "bert": _Family(
            "wordpiece",
            ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
            "[PAD]",
            "[UNK]",
            _BERT_PAIR,
            lower_case=True,
        ),
        "deberta-v2": _Family(
            "sentencepiece",
            ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"),
            "[PAD]",
            "[UNK]",
            _BERT_PAIR,
        ),
        "xlm-roberta": _Family(
            "sentencepiece",
            ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
            "<pad>",
            "<unk>",
            ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
        ),
        "big_bird": _Family("sentencepiece", _BIG_BIRD, "<pad>", "<unk>", _BERT_PAIR),
        "modernbert": _Family(
            "byte-level",
            ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
            "[PAD]",
            "[UNK]",
            ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]"),
        ),
        "qwen2": _Family(
            "byte-level",
            ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
            "<|endoftext|>",
            "<|endoftext|>",
            None,
        ),
        "qwen3": _Family(
            "byte-level",
            ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
            "<|endoftext|>",
            "<|endoftext|>",
            None,
        ),
        "llama": _Family(
            "byte-level",
            ("<s>", "</s>", "<unk>"),
            "</s>",  # it has no padding of its own
            "<unk>",
            ("<s> $A", "<s> $A <s>:1 $B:1"),
        ),
    }
)
ARCHITECTURES: Final = tuple(_FAMILIES)


def write_tiny(
    folder: Path,
    architecture: str,
    texts: Iterable[str] = (),
    seed: int = 7,
    *,
    layers: int = 2,
    width: int = 32,
) -> Path:
    """Write a random model of `architecture` and a tokenizer trained on `texts` into `folder`.

    The same texts and seed write the same bytes. At most the first 20,000 texts are read.
    """
    if architecture not in _FAMILIES:
        raise ConfigError(
            f"no tiny backbone of architecture {architecture!r}; expected one of "
            f"{', '.join(ARCHITECTURES)}"
        )
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModel

    from models.language.networks.loading import quiet

    family = _FAMILIES[architecture]
    tokenizer = _trained(family, [*_ALPHABET, *islice(texts, _MOST_TEXTS)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=True)
    sizes = _sizes(architecture, layers, width)
    named = _special_ids(family, tokenizer)
    config = AutoConfig.for_model(
        architecture, vocab_size=tokenizer.get_vocab_size(), **named, **sizes
    )
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModel.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
        # Not by the model itself, which would write in the first of several processes alone.
        model.config.save_pretrained(folder)
        save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
    return folder


def _sizes(architecture: str, layers: int, width: int) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "max_position_embeddings": MOST_TOKENS,
        # At the usual 0.02 a model this narrow hardly tells two texts apart.
        "initializer_range": 0.1,
    }
    if architecture == "deberta-v2":  # as version 3 has it
        sizes |= {
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_biased_input": False,
            "max_relative_positions": -1,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
        }
    elif architecture == "xlm-roberta":
        sizes |= {"type_vocab_size": 1, "max_position_embeddings": MOST_TOKENS + 2}
    elif architecture == "big_bird":
        sizes |= {"attention_type": "original_full", "block_size": 16, "num_random_blocks": 1}
    elif architecture == "modernbert":
        # Global and local attention take turns; the window is narrower than a pair is long.
        sizes |= {"global_attn_every_n_layers": 2, "local_attention": 16}
    elif architecture in ("qwen2", "qwen3", "llama"):
        sizes |= {"num_key_value_heads": 1, "head_dim": width // 2}
    return sizes


def _special_ids(family: _Family, tokenizer: Tokenizer) -> dict[str, int | None]:
    """The ids that a configuration names; those a family lacks are None, not a default's."""
    found = {
        "pad_token_id": family.pad,
        "bos_token_id": "<s>",
        "eos_token_id": "</s>" if "</s>" in family.specials else "<|endoftext|>",
        "cls_token_id": "[CLS]",
        "sep_token_id": "[SEP]",
    }
    return {name: tokenizer.token_to_id(token) for name, token in found.items()}


def _trained(family: _Family, texts: list[str]) -> Tokenizer:
    tokenizer = _TRAINERS[family.tokenizer](family, texts)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in family.specials])
    pad = tokenizer.token_to_id(family.pad)
    tokenizer.enable_padding(pad_id=pad, pad_token=family.pad)
    if family.template:
        alone, pair = family.template
        ids = [(token, tokenizer.token_to_id(token)) for token in family.specials]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=alone, pair=pair, special_tokens=ids
        )
    return tokenizer


def _wordpiece(family: _Family, texts: list[str]) -> Tokenizer:
    normalizer = normalizers.BertNormalizer(lowercase=family.lower_case)
    cutter = pre_tokenizers.BertPreTokenizer()
    found = _frequent_pieces(_words(normalizer, cutter, texts), "##")
    vocabulary = {piece: at for at, piece in enumerate([*family.specials, *found])}
    tokenizer = Tokenizer(pieces.WordPiece(vocabulary, unk_token=family.unknown))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = cutter
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _byte_level(family: _Family, texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(pieces.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(family.specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _sentencepiece(family: _Family, texts: list[str]) -> Tokenizer:
    normalizer, cutter = normalizers.NFKC(), pre_tokenizers.Metaspace()
    found = _frequent_pieces(_words(normalizer, cutter, texts), "")
    total = sum(found.values())
    scores = [(piece, math.log(count / total)) for piece, count in found.items()]
    specials = [(token, 0.0) for token in family.specials]
    unknown = family.specials.index(family.unknown)
    tokenizer = Tokenizer(pieces.Unigram([*specials, *scores], unk_id=unknown))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = cutter
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _words(normalizer: Any, cutter: Any, texts: list[str]) -> Counter[str]:
    """How often each word comes, as a tokenizer cuts words."""
    return Counter(
        word
        for text in texts
        for word, _ in cutter.pre_tokenize_str(normalizer.normalize_str(text))
    )


def _frequent_pieces(words: Counter[str], inside: str) -> dict[str, int]:
    """Pieces of words, how often each comes; `inside` marks one that does not start its word.

    Counted here, because the library's trainers of such tokenizers answer differently every time.
    """
    counts: Counter[str] = Counter()
    common = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:_MOST_WORDS]
    for word, times in common:
        for start in range(len(word)):
            for stop in range(start + 1, min(start + _LONGEST_PIECE, len(word)) + 1):
                counts[(inside if start else "") + word[start:stop]] += times
    single = {piece for piece in counts if len(piece.removeprefix(inside)) == 1}
    by_use = sorted(counts, key=lambda piece: (-counts[piece] * len(piece), piece))
    kept = single | set(by_use[: max(_VOCABULARY - len(single), 0)])
    return {piece: counts[piece] for piece in sorted(kept)}


_TRAINERS: Final[Mapping[TokenizerFamily, Callable[[_Family, list[str]], Tokenizer]]] = {
    "wordpiece": _wordpiece,
    "byte-level": _byte_level,
    "sentencepiece": _sentencepiece,
}
