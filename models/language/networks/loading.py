"""Pretrained transformers from a folder: safetensors alone, complete, and without a word said."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, MODEL_MAPPING
from transformers.utils import logging as their_logging

from models.errors import MemberError
from models.language.sources.folder import CONFIG_FILE, read_object, weight_files

# What a configuration says of code to fetch and run, and of how a model is run, which is ours to
# say.
_NOT_TAKEN: Final = frozenset(
    {"auto_map", "fusion_config", "output_attentions", "output_hidden_states", "return_dict"}
)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers from logging and drawing progress bars, and leaves both as they were."""
    verbosity = their_logging.get_verbosity()
    bars = their_logging.is_progress_bar_enabled()
    their_logging.set_verbosity(logging.CRITICAL)
    their_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        their_logging.set_verbosity(verbosity)
        if bars:
            their_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_transformer(folder: Path) -> Any:
    """The transformer in `folder`, in single precision and evaluation mode, without any head.

    What its weights file holds besides, heads and poolers, is left out. The library is given the
    configuration and the tensors and never the folder, so that no pickle, adapter or module that
    lies there is opened.
    """
    # Random numbers are drawn for weights that are then loaded.
    with _told_of(folder), quiet(), torch.random.fork_rng(devices=[]):
        model, report = _loaded(folder)
    if lacking := sorted(report["missing_keys"]):
        raise MemberError(
            f"the weights in {folder} lack {len(lacking)} of the model's, as {lacking[0]}; "
            "expected the weights that its config.json describes"
        )
    return model.eval()


def can_recompute(folder: Path) -> bool:
    """Whether the transformer in `folder` can be trained without keeping all its activations.

    By its config.json: no weights are opened.
    """
    with _told_of(folder), quiet():
        _, kind = _described(folder)
    return bool(kind.supports_gradient_checkpointing)


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    """Says of whatever the library raises which folder it is about."""
    try:
        yield
    except MemberError:
        raise
    except Exception as error:  # each library below raises errors of its own
        raise MemberError(
            f"{folder} holds no transformer that can be loaded: {error}; expected config.json and "
            "safetensors written by one version of it"
        ) from error


def _described(folder: Path) -> tuple[Any, Any]:
    """The configuration of the transformer in `folder`, and the class that it is of."""
    said = read_object(folder / CONFIG_FILE)
    architecture = str(said.get("model_type"))
    if architecture not in CONFIG_MAPPING:
        own = " (it brings code of its own, which is never run)" if "auto_map" in said else ""
        raise MemberError(
            f"{folder} holds a model of architecture {architecture!r}{own}, which the installed "
            "transformers does not know; expected one that it does, as bert or qwen2, or a newer "
            "transformers"
        )
    if "quantization_config" in said:
        raise MemberError(
            f"{folder} holds quantised weights; expected those in floating point that they were "
            "made from: members are quantised when they are exported"
        )
    config = CONFIG_MAPPING[architecture].from_dict(
        {name: value for name, value in said.items() if name not in _NOT_TAKEN}
    )
    if architecture == "big_bird":
        # Its sparse attention changes to full and back with the length of a batch, so that a
        # text's answer would depend on its company. Pairs are short enough for full attention.
        config.attention_type = "original_full"
    if type(config) not in MODEL_MAPPING:
        raise MemberError(
            f"{folder} holds a model of architecture {architecture!r}, which has no states to "
            "give; expected one that reads text, an encoder or a decoder by itself"
        )
    return config, MODEL_MAPPING[type(config)]


def _loaded(folder: Path) -> tuple[Any, dict[str, Any]]:
    config, kind = _described(folder)
    # A pooler would be random where a folder has none, and would never be trained.
    has_pooler = "add_pooling_layer" in signature(kind).parameters
    tensors = {
        name: tensor for path in weight_files(folder) for name, tensor in load_file(path).items()
    }
    found: tuple[Any, dict[str, Any]] = kind.from_pretrained(
        None,
        config=config,
        state_dict=tensors,
        dtype=torch.float32,
        # Whatever attention the configuration names, which may be kernels from the hub.
        attn_implementation=None,
        experts_implementation=None,
        output_loading_info=True,
        **({"add_pooling_layer": False} if has_pooler else {}),
    )
    return found
