"""The head that guesses tokens: a transform, and the word embeddings themselves as its weights."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.activations import ACT2FN

from models.language.networks.encoder import Encoder

# Where the weights of a head are in files that hold one: dense, norm, bias of the output. Whoever
# wrote the file before renaming is read as well.
_BERT: Final = (
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.bias",
)
_ROBERTA: Final = ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias")
_NAMES: Final[Mapping[str, tuple[tuple[str, str, str], ...]]] = MappingProxyType(
    {
        "bert": (_BERT,),
        "big_bird": (_BERT,),
        "roberta": (_ROBERTA,),
        "xlm-roberta": (_ROBERTA,),
        "deberta-v2": (
            _BERT,
            (
                "lm_predictions.lm_head.dense",
                "lm_predictions.lm_head.LayerNorm",
                "lm_predictions.lm_head.bias",
            ),
        ),
        "modernbert": (("head.dense", "head.norm", "decoder.bias"),),
    }
)

ARCHITECTURES: Final = frozenset(_NAMES)
"""Architectures that see both sides of a token, and so can guess it."""


class MaskedHead(nn.Module):
    """States of tokens to logits over the vocabulary, (tokens, vocabulary).

    The output weights are the word embeddings of the encoder: whatever the head learns of a word,
    the backbone keeps.
    """

    def __init__(self, width: int, rows: int, activation: nn.Module, norm_eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.activation = activation
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(rows))

    @classmethod
    def new(cls, encoder: Encoder, counts: Tensor) -> Self:
        """A head that knows nothing but how often each token comes: it answers near that.

        The transform begins as the identity without an activation, so that gradients reach the
        backbone as its own states, and in a size that hardly moves the answer at first. `counts`
        has one entry per token vector.
        """
        table = encoder.word_embeddings
        head = cls(table.shape[1], len(table), nn.Identity(), 1e-12)
        with torch.no_grad():
            head.dense.weight.copy_(torch.eye(table.shape[1]))
            head.dense.bias.zero_()
            # Normalised states have length sqrt(width): logits of a standard deviation near one.
            spread = (table - table.mean(dim=0)).pow(2).sum(dim=1).mean().sqrt()
            head.norm.weight.fill_(1.0 / float(spread.clamp(min=1e-6)))
            head.bias.copy_(torch.log((counts + 1) / (counts + 1).sum()))
        return head

    @classmethod
    def of_folder(cls, encoder: Encoder, folder: Path) -> Self | None:
        """The head that the weights in `folder` were trained with; None where they hold none.

        Rows that were added to the vocabulary since get a bias of zero.
        """
        config = encoder.backbone.config
        with ExitStack() as stack:
            tensors: dict[str, Tensor] = {}
            for path in sorted(folder.glob("*.safetensors")):
                opened = stack.enter_context(safe_open(path, framework="pt"))
                names = [key for key in opened.keys() if _is_of_head(key, config.model_type)]  # noqa: SIM118 - it is no dictionary
                tensors |= {key: opened.get_tensor(key).float() for key in names}
        for dense, norm, bias in _NAMES[config.model_type]:
            if f"{dense}.weight" not in tensors or bias not in tensors:
                continue
            table = encoder.word_embeddings
            act = getattr(config, "classifier_activation", None) or config.hidden_act
            if config.model_type in ("roberta", "xlm-roberta"):
                act = "gelu"  # whatever its layers have
            eps = getattr(config, "layer_norm_eps", None) or config.norm_eps
            head = cls(table.shape[1], len(table), ACT2FN[act], eps)
            with torch.no_grad():
                for module, name in ((head.dense, dense), (head.norm, norm)):
                    module.weight.copy_(tensors[f"{name}.weight"])
                    module.bias.zero_()  # some families have none
                    if f"{name}.bias" in tensors:
                        module.bias.copy_(tensors[f"{name}.bias"])
                rows = min(len(tensors[bias]), len(table))
                head.bias[:rows] = tensors[bias][:rows]
            return head
        return None

    def forward(self, states: Tensor, table: Tensor) -> Tensor:
        """Logits of `states` (tokens, width) over the token vectors `table`."""
        transformed = self.norm(self.activation(self.dense(states)))
        logits: Tensor = nn.functional.linear(transformed, table, self.bias)
        return logits


def _is_of_head(key: str, architecture: str) -> bool:
    return any(
        key.startswith((dense, norm)) or key == bias for dense, norm, bias in _NAMES[architecture]
    )
