"""A torch network as an ONNX graph."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import ExportError
from models.language.reading.sequences import Sequences
from models.language.serving.graph.attention import fuse_attention
from models.language.serving.graph.editing import from_onnx, tidied, to_onnx
from models.language.serving.graph.selection import select_early
from models.language.serving.weights.writing import to_onnx_spilling

if TYPE_CHECKING:
    import onnx
    from torch import nn

INPUTS: Final = ("ids", "mask", "segments")
OUTPUT: Final = "rows"
_EXAMPLE: Final = (2, 16)  # texts and tokens; neither may be 0 or 1, which would be taken for fixed
# The first version of the standard's operations with attention. The exporter, asked for it, writes
# rotary embeddings that onnxruntime refuses; so it writes an older one, which is lifted.
_OPERATIONS: Final = 23


def onnx_network(
    module: "nn.Module", sample: Sequences, takes_segments: bool, scratch: Path | None = None
) -> "onnx.ModelProto":
    """`module` on the CPU as ONNX with any number of texts of any length.

    Inputs are int64 `ids`, `mask` and, where `takes_segments`, `segments`; the output is `rows`.
    Weights that are too many for a protobuf go to files in the folder `scratch`, where one is
    given, and have to stay there for as long as the network is used.
    """
    graph = from_onnx(as_exported(module, sample, takes_segments, scratch))
    fuse_attention(graph)
    select_early(graph)
    return to_onnx_spilling(tidied(graph), scratch and scratch / "rewritten")


def as_exported(
    module: "nn.Module", sample: Sequences, takes_segments: bool, scratch: Path | None = None
) -> "onnx.ModelProto":
    """`module` as torch exports it, before anything is done to make it quick."""
    import torch
    from onnxscript.version_converter import convert_version

    ids = torch.from_numpy(np.resize(sample.ids, _EXAMPLE).astype(np.int64))
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    given = (ids, mask, torch.zeros_like(ids))[: 3 if takes_segments else 2]
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                _network(module, takes_segments).eval(),
                given,
                dynamo=True,
                dynamic_shapes=(sizes,) * len(given),
                input_names=list(INPUTS[: len(given)]),
                output_names=[OUTPUT],
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # an exception per cause, with no root of its own
        raise ExportError(
            f"torch cannot write {type(module).__name__} as ONNX: {error}; expected a network "
            "whose operations do not depend on what the tokens are"
        ) from error
    if program is None:
        raise ExportError("torch.onnx.export wrote nothing; expected a program")
    graph = from_onnx(_bare(to_onnx_spilling(program.model, scratch and scratch / "exported")))
    convert_version(graph, _OPERATIONS)
    return to_onnx(graph)


def _network(module: "nn.Module", takes_segments: bool) -> "nn.Module":
    """`module` as a function of what it reads."""
    import torch
    from torch import Tensor, nn

    if takes_segments:
        return module

    class WithoutSegments(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            rows: Tensor = self.module(ids, mask, torch.zeros_like(ids))
            return rows

    return WithoutSegments()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what the exporter says of packages and types that are not ours."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(StringIO()),
            redirect_stderr(StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _bare(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """`model` without notes on where its nodes come from, which name files of this machine."""
    del model.metadata_props[:]
    for item in [model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]:
        del item.metadata_props[:]
    for item in [*model.graph.input, *model.graph.output]:
        del item.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    return model
