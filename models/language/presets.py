"""What is known beforehand of the backbones the field uses; numbers a configuration may overrule.

Nothing here is loaded: a preset is where a backbone is found, what its tokenizer needs and how it
is trained best.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from models.errors import ConfigError
from models.typed import STRICT

Pooling: TypeAlias = Literal["cls", "mean", "last"]
"""How the states of a text become one vector: its first token's, their mean, its last token's."""

TokenizerFamily: TypeAlias = Literal["wordpiece", "sentencepiece", "byte-level"]
"""What a tokenizer was trained as; the hub often holds sentencepiece ones in their own format."""

MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class Preset:
    """A backbone as the field uses it."""

    __pydantic_config__ = STRICT

    architecture: str  # the `model_type` of its config.json
    hub: str | None = None
    pooling: Pooling = "cls"
    tokenizer: TokenizerFamily = "wordpiece"
    keeps_case: bool = True  # False: its tokenizer lower-cases, and "Apple" is "apple"
    markers: bool = True  # whether field markers are worth their tokens
    max_tokens: int = 512  # that its positions were trained for
    learning_rate: float = 2e-5
    lora: bool = False  # trained by low-rank adapters, where all weights would be too many
    sha256: str | None = None  # of its weights, where only those very weights will do
    notes: str = ""


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters on every linear layer of the backbone, which is itself frozen."""

    __pydantic_config__ = STRICT

    rank: int = 16
    alpha: float = 32.0  # what the adapters add is scaled by alpha / rank
    dropout: float = 0.05

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"lora rank {self.rank}, alpha {self.alpha}, dropout {self.dropout}: expected a "
                "rank of at least 1, a positive alpha and a dropout in [0, 1)"
            )


def _decoder(architecture: str, hub: str, max_tokens: int, notes: str = "") -> Preset:
    return Preset(
        architecture,
        hub,
        pooling="last",  # the only token that has seen all the others
        tokenizer="byte-level",
        max_tokens=max_tokens,
        learning_rate=2e-4,  # of adapters; all weights would want a tenth of it
        lora=True,
        notes=notes,
    )


_PICKLED = "The hub may hold its weights pickled only; convert them to safetensors once, elsewhere."

# Learning rates are what their authors and the ESCI winners fine-tuned with.
PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "minilm": Preset(
            "bert",
            "sentence-transformers/all-MiniLM-L6-v2",
            pooling="mean",
            keeps_case=False,
            learning_rate=5e-5,
            sha256=MINILM_SHA256,
            notes="English; the extra minilm brings it. As a cross-encoder pool by cls.",
        ),
        "minilm-l12": Preset(
            "bert",
            "sentence-transformers/all-MiniLM-L12-v2",
            pooling="mean",
            keeps_case=False,
            learning_rate=5e-5,
            notes="English.",
        ),
        "ms-marco-minilm-l6": Preset(
            "bert",
            "cross-encoder/ms-marco-MiniLM-L6-v2",
            keeps_case=False,
            learning_rate=5e-5,
            notes="English; trained to rank passages for queries.",
        ),
        "ms-marco-minilm-l12": Preset(
            "bert",
            "cross-encoder/ms-marco-MiniLM-L12-v2",
            keeps_case=False,
            learning_rate=5e-5,
            notes="English; trained to rank passages for queries.",
        ),
        "deberta-v3-base": Preset(
            "deberta-v2",
            "microsoft/deberta-v3-base",
            tokenizer="sentencepiece",
            notes="English. " + _PICKLED,
        ),
        "deberta-v3-large": Preset(
            "deberta-v2",
            "microsoft/deberta-v3-large",
            tokenizer="sentencepiece",
            learning_rate=1e-5,
            notes="English; diverges at rates that suit the base model. " + _PICKLED,
        ),
        "mdeberta-v3-base": Preset(
            "deberta-v2",
            "microsoft/mdeberta-v3-base",
            tokenizer="sentencepiece",
            notes="All locales. " + _PICKLED,
        ),
        "bigbird-base": Preset(
            "big_bird",
            "google/bigbird-roberta-base",
            tokenizer="sentencepiece",
            markers=False,  # as in the ensemble of the paper
            max_tokens=4096,
            notes="English; run with full attention, for pairs are short. " + _PICKLED,
        ),
        "xlm-roberta-base": Preset(
            "xlm-roberta",
            "FacebookAI/xlm-roberta-base",
            tokenizer="sentencepiece",
            notes="All locales.",
        ),
        "xlm-roberta-large": Preset(
            "xlm-roberta",
            "FacebookAI/xlm-roberta-large",
            tokenizer="sentencepiece",
            learning_rate=1e-5,
            notes="All locales.",
        ),
        "infoxlm-large": Preset(
            "xlm-roberta",
            "microsoft/infoxlm-large",
            tokenizer="sentencepiece",
            learning_rate=1e-5,
            notes="All locales; what the winner of the ESCI classification task used. " + _PICKLED,
        ),
        "modernbert-base": Preset(
            "modernbert",
            "answerdotai/ModernBERT-base",
            tokenizer="byte-level",
            max_tokens=8192,
            learning_rate=5e-5,
            notes="English.",
        ),
        "modernbert-large": Preset(
            "modernbert",
            "answerdotai/ModernBERT-large",
            tokenizer="byte-level",
            max_tokens=8192,
            learning_rate=3e-5,
            notes="English.",
        ),
        "qwen2.5-0.5b": _decoder("qwen2", "Qwen/Qwen2.5-0.5B", 32_768),
        "qwen2.5-1.5b": _decoder("qwen2", "Qwen/Qwen2.5-1.5B", 131_072),
        "qwen3-0.6b": _decoder("qwen3", "Qwen/Qwen3-0.6B-Base", 32_768),
        "qwen3-1.7b": _decoder("qwen3", "Qwen/Qwen3-1.7B-Base", 32_768),
        "llama-3.2-1b": _decoder(
            "llama", "meta-llama/Llama-3.2-1B", 131_072, "The hub asks to accept its licence first."
        ),
    }
)

# What a backbone of each architecture is taken for when no preset names it.
BY_ARCHITECTURE: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "bert": Preset("bert"),
        "roberta": Preset("roberta", tokenizer="byte-level"),
        "xlm-roberta": Preset("xlm-roberta", tokenizer="sentencepiece"),
        "big_bird": Preset("big_bird", tokenizer="sentencepiece", markers=False, max_tokens=4096),
        "deberta-v2": Preset("deberta-v2", tokenizer="sentencepiece"),
        "modernbert": Preset("modernbert", tokenizer="byte-level", max_tokens=8192),
        **{
            name: Preset(
                name,
                pooling="last",
                tokenizer="byte-level",
                max_tokens=32_768,
                learning_rate=2e-4,
                lora=True,
            )
            for name in ("qwen2", "qwen3", "llama")
        },
    }
)
