"""What is known beforehand of the backbones the field uses; numbers a configuration may overrule.

Nothing here is loaded: a preset is where a backbone is found, what its tokenizer needs, how long
its texts may be and where its training may start from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from models.errors import ConfigError, MemberError
from models.typed import STRICT, require_finite

Pooling: TypeAlias = Literal["cls", "mean", "last"]
"""How the states of a text become one vector: its first token's, their mean, its last token's."""

PairPooling: TypeAlias = Literal["cls", "mean", "last", "compared"]
"""The same for two texts read as one; compared holds the means of both, and how they differ."""

TokenizerFamily: TypeAlias = Literal["wordpiece", "sentencepiece", "byte-level"]
"""What a tokenizer was trained as; the hub often holds sentencepiece ones in their own format."""

MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class Preset:
    """A backbone as the field uses it.

    Learning rates are starting points from the literature, and none of them was measured here:
    2e-5 is the published ensemble's for models of BERT's size, and what the authors of DeBERTa-v3
    give as an example; larger models are usually given half of it, small ones and adapters more.
    """

    __pydantic_config__ = STRICT

    architecture: str  # the `model_type` of its config.json
    hub: str | None = None
    pooling: Pooling = "cls"
    # What its own tokenizer is, where that is known beforehand. A sentencepiece one that comes
    # without tokenizer.json takes the module of that name to read.
    tokenizer: TokenizerFamily | None = None
    markers: bool = True  # whether field markers are worth their tokens
    max_tokens: int | None = None  # that it was trained for; None: as many as it has positions for
    learning_rate: float = 2e-5
    lora: bool = False  # trained by low-rank adapters, where all weights would be too many
    sha256: str | None = None  # of its weights, where only those very weights will do
    notes: str = ""  # what to know when it cannot be had or read: said with every such error


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters on every linear layer of the backbone, which is itself frozen."""

    __pydantic_config__ = STRICT

    rank: int = 16
    alpha: float = 32.0  # what the adapters add is scaled by alpha / rank
    dropout: float = 0.05

    def __post_init__(self) -> None:
        require_finite(self)
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"lora rank {self.rank}, alpha {self.alpha}, dropout {self.dropout}: expected a "
                "rank of at least 1, a positive alpha and a dropout in [0, 1)"
            )


_ADAPTER_RATE: Final = 2e-4  # of adapters; all weights would want a tenth of it


def _encoder(
    architecture: str,
    hub: str,
    tokenizer: TokenizerFamily,
    *,
    max_tokens: int = 512,
    notes: str = "English",
    **more: Any,
) -> Preset:
    return Preset(
        architecture, hub, tokenizer=tokenizer, max_tokens=max_tokens, notes=notes, **more
    )


def _decoder(architecture: str, hub: str, max_tokens: int, notes: str = "") -> Preset:
    return Preset(
        architecture,
        hub,
        pooling="last",  # the only token that has seen all the others
        tokenizer="byte-level",
        max_tokens=max_tokens,
        learning_rate=_ADAPTER_RATE,
        lora=True,
        notes=notes,
    )


_PICKLED: Final = (
    "the hub may hold its weights pickled only: download and convert them once (esci convert) and "
    "name that folder, or name a revision that has safetensors behind an @"
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "minilm": _encoder(
            "bert",
            "sentence-transformers/all-MiniLM-L6-v2",
            "wordpiece",
            pooling="mean",
            learning_rate=5e-5,
            sha256=MINILM_SHA256,
            notes="English, without case; the extra minilm brings it",
        ),
        "minilm-l12": _encoder(
            "bert",
            "sentence-transformers/all-MiniLM-L12-v2",
            "wordpiece",
            pooling="mean",
            learning_rate=5e-5,
            notes="English, without case",
        ),
        "ms-marco-minilm-l6": _encoder(
            "bert",
            "cross-encoder/ms-marco-MiniLM-L6-v2",
            "wordpiece",
            learning_rate=5e-5,
            notes="English, without case; trained to rank passages for queries",
        ),
        "ms-marco-minilm-l12": _encoder(
            "bert",
            "cross-encoder/ms-marco-MiniLM-L12-v2",
            "wordpiece",
            learning_rate=5e-5,
            notes="English, without case; trained to rank passages for queries",
        ),
        "deberta-v3-base": _encoder(
            "deberta-v2",
            "microsoft/deberta-v3-base",
            "sentencepiece",
            notes=f"English; {_PICKLED}",
        ),
        "deberta-v3-large": _encoder(
            "deberta-v2",
            "microsoft/deberta-v3-large",
            "sentencepiece",
            learning_rate=1e-5,
            notes=f"English; {_PICKLED}",
        ),
        "mdeberta-v3-base": _encoder(
            "deberta-v2",
            "microsoft/mdeberta-v3-base",
            "sentencepiece",
            notes=f"all locales; {_PICKLED}",
        ),
        "bigbird-base": _encoder(
            "big_bird",
            "google/bigbird-roberta-base",
            "sentencepiece",
            markers=False,  # as in the published ensemble
            max_tokens=4096,
            notes=f"English; run with full attention, for pairs are short; {_PICKLED}",
        ),
        "xlm-roberta-base": _encoder(
            "xlm-roberta",
            "FacebookAI/xlm-roberta-base",
            "sentencepiece",
            notes="all locales",
        ),
        "xlm-roberta-large": _encoder(
            "xlm-roberta",
            "FacebookAI/xlm-roberta-large",
            "sentencepiece",
            learning_rate=1e-5,
            notes="all locales",
        ),
        "infoxlm-large": _encoder(
            "xlm-roberta",
            "microsoft/infoxlm-large",
            "sentencepiece",
            learning_rate=1e-5,
            notes=f"all locales; {_PICKLED}",
        ),
        "modernbert-base": _encoder(
            "modernbert",
            "answerdotai/ModernBERT-base",
            "byte-level",
            max_tokens=8192,
            learning_rate=5e-5,
        ),
        "modernbert-large": _encoder(
            "modernbert",
            "answerdotai/ModernBERT-large",
            "byte-level",
            max_tokens=8192,
            learning_rate=3e-5,
        ),
        "qwen2.5-0.5b": _decoder("qwen2", "Qwen/Qwen2.5-0.5B", 32_768),
        "qwen2.5-1.5b": _decoder("qwen2", "Qwen/Qwen2.5-1.5B", 131_072),
        "qwen3-0.6b": _decoder("qwen3", "Qwen/Qwen3-0.6B-Base", 32_768),
        "qwen3-1.7b": _decoder("qwen3", "Qwen/Qwen3-1.7B-Base", 32_768),
        "llama-3.2-1b": _decoder(
            "llama", "meta-llama/Llama-3.2-1B", 131_072, "the hub asks to accept its licence first"
        ),
    }
)

# Models that read from left to right; others say so by what they were trained for.
_DECODERS: Final = frozenset(
    {"gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "opt", "phi3"}
    | {"qwen2", "qwen3", "smollm3"}
)
_TRAINED_TO_WRITE: Final = "ForCausalLM"


def default_preset(config: Mapping[str, Any]) -> Preset:
    """What a backbone is taken for that no preset names, by its config.json."""
    architecture = config.get("model_type")
    if not isinstance(architecture, str) or not architecture:
        raise MemberError(
            f"config.json names the architecture {architecture!r}; expected the model_type of a "
            "transformer that reads text"
        )
    if config.get("is_encoder_decoder"):
        raise MemberError(
            f"config.json is of a model that reads and writes ({architecture!r}); expected an "
            "encoder or a decoder by itself"
        )
    classes = config.get("architectures")
    named = classes if isinstance(classes, list) else []
    writes = any(str(name).endswith(_TRAINED_TO_WRITE) for name in named)
    if architecture in _DECODERS or writes:
        return Preset(architecture, pooling="last", learning_rate=_ADAPTER_RATE, lora=True)
    return Preset(architecture, markers=architecture != "big_bird")


def is_decoder(config: Mapping[str, Any]) -> bool:
    """Whether config.json is of a model that is known to read from left to right.

    Some of the same architectures were made to look both ways, and say so.
    """
    looks_back = config.get("is_causal") is False or config.get("use_bidirectional_attention")
    architecture = config.get("model_type")
    return isinstance(architecture, str) and architecture in _DECODERS and not looks_back
