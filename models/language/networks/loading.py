"""Pretrained transformers from a folder: safetensors alone, complete, and without a word said."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoConfig, AutoModel
from transformers.utils import logging as their_logging

from models.errors import MemberError
from models.language.presets import BY_ARCHITECTURE

# Their models bring a pooler that we do not use: its weights would be random where a folder has
# none, and would never be trained.
_WITH_POOLER: Final = ("bert", "roberta", "xlm-roberta", "big_bird")


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

    What its weights file holds besides, heads and poolers, is left out.
    """
    try:
        # Random numbers are drawn for weights that are then loaded.
        with quiet(), torch.random.fork_rng(devices=[]):
            model, report = _loaded(folder)
    except MemberError:
        raise
    except Exception as error:  # each library below raises errors of its own
        raise MemberError(
            f"{folder} holds no transformer that can be loaded: {error}; expected config.json and "
            "safetensors written by one version of it"
        ) from error
    if lacking := sorted(report["missing_keys"]):
        raise MemberError(
            f"the weights in {folder} lack {len(lacking)} of the model's, as {lacking[0]}; "
            "expected the weights that its config.json describes"
        )
    return model.eval()


def _loaded(folder: Path) -> tuple[Any, dict[str, Any]]:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if config.model_type not in BY_ARCHITECTURE:
        raise MemberError(
            f"{folder} holds a model of architecture {config.model_type!r}; expected one of "
            f"{', '.join(BY_ARCHITECTURE)}"
        )
    if config.model_type == "big_bird":
        # Its sparse attention changes to full and back with the length of a batch, so that a
        # text's answer would depend on its company. Pairs are short enough for full attention.
        config.attention_type = "original_full"
    without = {"add_pooling_layer": False} if config.model_type in _WITH_POOLER else {}
    found: tuple[Any, dict[str, Any]] = AutoModel.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
        **without,
    )
    return found
