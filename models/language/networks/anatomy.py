"""Where each architecture keeps its layers, and how to run some of them by themselves.

A transformer's own forward runs all of it. To train the top layers on stored states of the lower
ones, one must enter and leave between layers, and what a layer is given beside the states (masks,
rotations, relative positions) differs by family.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
    create_causal_mask,
    create_sliding_window_causal_mask,
)


class Anatomy(ABC):
    """A transformer of the library, taken apart into what comes before, between and after."""

    is_decoder: ClassVar[bool] = False  # a token sees only those before it

    def __init__(self, model: Any) -> None:
        self.model = model
        self.takes_segments = getattr(model.config, "type_vocab_size", 0) > 1

    @abstractmethod
    def layers(self) -> nn.ModuleList:
        """The layers, lowest first."""

    @abstractmethod
    def base(self) -> list[nn.Module]:
        """What all layers rest on: embeddings, and positions that every layer shares."""

    def crown(self) -> list[nn.Module]:
        """What follows the topmost layer."""
        return []

    @abstractmethod
    def embed(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """What enters the lowest layer."""

    @abstractmethod
    def run(self, states: Tensor, mask: Tensor, first: int, last: int) -> Tensor:
        """`states` through the layers `first`, …, `last - 1`."""

    def finish(self, states: Tensor) -> Tensor:
        """What the topmost layer answers, as the model gives it out."""
        return states

    def most_tokens(self) -> int:
        """The longest text that the model has positions for."""
        return int(self.model.config.max_position_embeddings)


class _Bert(Anatomy):
    """BERT, RoBERTa, XLM-R, and BigBird with full attention."""

    def layers(self) -> nn.ModuleList:
        found: nn.ModuleList = self.model.encoder.layer
        return found

    def base(self) -> list[nn.Module]:
        return [self.model.embeddings]

    def embed(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        del mask
        segments = segments if self.takes_segments else torch.zeros_like(ids)
        states: Tensor = self.model.embeddings(input_ids=ids, token_type_ids=segments)
        return states

    def run(self, states: Tensor, mask: Tensor, first: int, last: int) -> Tensor:
        seen = create_bidirectional_mask(
            config=self.model.config, inputs_embeds=states, attention_mask=mask
        )
        for layer in self.layers()[first:last]:
            states = layer(states, attention_mask=seen)
        return states


class _Roberta(_Bert):
    """Positions begin behind the padding's id, and so the table has fewer than it has rows."""

    def most_tokens(self) -> int:
        return super().most_tokens() - int(self.model.config.pad_token_id) - 1


class _Deberta(Anatomy):
    """Relative positions, in a table that all layers share."""

    def layers(self) -> nn.ModuleList:
        found: nn.ModuleList = self.model.encoder.layer
        return found

    def base(self) -> list[nn.Module]:
        parts = [self.model.embeddings]
        for name in ("rel_embeddings", "LayerNorm", "conv"):
            part = getattr(self.model.encoder, name, None)
            if part is not None:
                parts.append(part)
        return parts

    def embed(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        segments = segments if self.takes_segments else torch.zeros_like(ids)
        states: Tensor = self.model.embeddings(input_ids=ids, token_type_ids=segments, mask=mask)
        return states

    def run(self, states: Tensor, mask: Tensor, first: int, last: int) -> Tensor:
        encoder = self.model.encoder
        seen = encoder.get_attention_mask(mask)
        positions = encoder.get_rel_pos(states)
        table = encoder.get_rel_embedding()
        for at, layer in enumerate(self.layers()[first:last], start=first):
            entered = states
            states, _ = layer(states, seen, relative_pos=positions, rel_embeddings=table)
            if at == 0 and encoder.conv is not None:
                states = encoder.conv(entered, states, mask)
        return states


class _ModernBert(Anatomy):
    """Global and local attention by turns, each with a mask and rotations of its own."""

    def layers(self) -> nn.ModuleList:
        found: nn.ModuleList = self.model.layers
        return found

    def base(self) -> list[nn.Module]:
        return [self.model.embeddings]

    def crown(self) -> list[nn.Module]:
        return [self.model.final_norm]

    def embed(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        del mask, segments
        states: Tensor = self.model.embeddings(input_ids=ids)
        return states

    def run(self, states: Tensor, mask: Tensor, first: int, last: int) -> Tensor:
        given = {
            "config": self.model.config,
            "inputs_embeds": states,
            "attention_mask": mask,
        }
        seen = {
            "full_attention": create_bidirectional_mask(**given),
            "sliding_attention": create_bidirectional_sliding_window_mask(**given),
        }
        at = torch.arange(states.shape[1], device=states.device).unsqueeze(0)
        kinds = self.model.config.layer_types
        turned = {kind: self.model.rotary_emb(states, at, kind) for kind in set(kinds)}
        for layer, kind in zip(self.layers()[first:last], kinds[first:last], strict=True):
            states = layer(states, attention_mask=seen[kind], position_embeddings=turned[kind])
        return states

    def finish(self, states: Tensor) -> Tensor:
        finished: Tensor = self.model.final_norm(states)
        return finished


class _Decoder(Anatomy):
    """Llama and Qwen."""

    is_decoder = True

    def layers(self) -> nn.ModuleList:
        found: nn.ModuleList = self.model.layers
        return found

    def base(self) -> list[nn.Module]:
        return [self.model.embed_tokens]

    def crown(self) -> list[nn.Module]:
        return [self.model.norm]

    def embed(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        del mask, segments
        states: Tensor = self.model.embed_tokens(ids)
        return states

    def run(self, states: Tensor, mask: Tensor, first: int, last: int) -> Tensor:
        at = torch.arange(states.shape[1], device=states.device).unsqueeze(0)
        given = {
            "config": self.model.config,
            "inputs_embeds": states,
            "attention_mask": mask,
            "past_key_values": None,
            "position_ids": at,
        }
        kinds = getattr(self.model.config, "layer_types", None)
        kinds = kinds or ["full_attention"] * len(self.layers())
        masks = {
            "full_attention": create_causal_mask,
            "sliding_attention": create_sliding_window_causal_mask,
        }
        seen = {kind: masks[kind](**given) for kind in set(kinds)}
        turned = self.model.rotary_emb(states, position_ids=at)
        for layer, kind in zip(self.layers()[first:last], kinds[first:last], strict=True):
            states = layer(
                states,
                attention_mask=seen[kind],
                position_embeddings=turned,
                position_ids=at,
                past_key_values=None,
                use_cache=False,
            )
        return states

    def finish(self, states: Tensor) -> Tensor:
        finished: Tensor = self.model.norm(states)
        return finished


_ANATOMIES: Final[Mapping[str, type[Anatomy]]] = MappingProxyType(
    {
        "bert": _Bert,
        "roberta": _Roberta,
        "xlm-roberta": _Roberta,
        "big_bird": _Bert,
        "deberta-v2": _Deberta,
        "modernbert": _ModernBert,
        "qwen2": _Decoder,
        "qwen3": _Decoder,
        "llama": _Decoder,
    }
)


def anatomy_of(model: Any) -> Anatomy:
    """How to take `model` apart; it must be of one of the architectures that have a preset."""
    return _ANATOMIES[model.config.model_type](model)
