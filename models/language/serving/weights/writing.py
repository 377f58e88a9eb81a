"""Networks whose weights are on disk while they are rewritten, and in a file beside them after.

A protobuf ends at 2 GiB. A network with more weights than `MOST_INSIDE` names them, from the
moment torch has exported it, by the absolute path of a file; rewriting reads them mapped into
memory, a tensor at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import onnx
import onnx_ir as ir
from onnx_ir.external_data import convert_tensors_to_external

from models.files import atomic_file
from models.language.serving.graph.editing import from_onnx, to_onnx

MOST_INSIDE: Final = 3 << 29  # bytes of weights in an ONNX file; the graph needs room as well
_LEAST_BESIDE: Final = 1 << 10  # bytes: engines want shapes and axes before they open weights
_SUFFIX: Final = ".data"


def to_onnx_spilling(graph: ir.Model, data: Path | None) -> onnx.ModelProto:
    """The graph as it is written to a file; its weights go to `data` where they are too many.

    Those that are in a file already stay there. The graph is changed with it. Without `data` all
    stay in memory.
    """
    held = [
        (value, tensor)
        for value, tensor in _weights(graph)
        if not isinstance(tensor, ir.ExternalTensor)
    ]
    if data is not None and _bytes(held) > MOST_INSIDE:
        _move(held, data, str(data.resolve()))
    return to_onnx(graph)


def write_network(model: onnx.ModelProto, path: Path) -> Path | None:
    """Write `model` to `path`, and return the file beside it that has its weights, if they do.

    The name of that file is all that the network says of where it is, so that both can be moved.
    """
    graph, data = from_onnx(model), None
    weights = _weights(graph)
    spilt = any(isinstance(tensor, ir.ExternalTensor) for _, tensor in weights)
    if spilt or _bytes(weights) > MOST_INSIDE:
        data = path.with_name(path.name + _SUFFIX)
        with atomic_file(data) as scratch:
            _move(weights, scratch, data.name)
        model = to_onnx(graph)
    with atomic_file(path) as scratch:
        scratch.write_bytes(model.SerializeToString(deterministic=True))
    return data


@contextmanager
def openable(model: onnx.ModelProto) -> Iterator[bytes | str]:
    """What onnxruntime opens: the bytes of `model`, or the path of a file beside its weights.

    It refuses weights named by an absolute path.
    """
    if not any(tensor.external_data for tensor in model.graph.initializer):
        yield model.SerializeToString()
        return
    moved = onnx.ModelProto()
    moved.CopyFrom(model)  # without its weights
    folder = Path()
    for tensor in moved.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                folder, entry.value = Path(entry.value).parent, Path(entry.value).name
    with NamedTemporaryFile(dir=folder, suffix=".onnx") as file:
        file.write(moved.SerializeToString())
        file.flush()
        yield file.name


_Weights = list[tuple[ir.Value, ir.TensorProtocol]]


def _weights(graph: ir.Model) -> _Weights:
    """What is large enough to be kept beside a network, in an order that keeps numbers aligned."""
    found = [
        (value, value.const_value)
        for part in graph.graphs()
        for value in part.initializers.values()
        if value.const_value is not None and value.const_value.nbytes > _LEAST_BESIDE
    ]
    # Bytes before floats would leave floats at places that are no multiple of their size.
    return sorted(found, key=lambda weight: -weight[1].dtype.bitwidth)


def _bytes(weights: _Weights) -> int:
    return sum(tensor.nbytes for _, tensor in weights)


def _move(weights: _Weights, data: Path, location: str) -> None:
    """Has `weights` lie in `data`, one after another, and be looked for at `location`."""
    tensors = [tensor for _, tensor in weights]
    moved = convert_tensors_to_external(tensors, data.parent, data.name)
    for (value, _), tensor in zip(weights, moved, strict=True):
        value.const_value = ir.ExternalTensor(
            location,
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=tensor.shape,
            name=str(value.name),
        )
