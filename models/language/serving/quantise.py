"""An exported network with its matrix products in eight bits.

Activations get a scale once, from texts like those that will be asked, or one for every token, so
that no text's answer depends on the texts beside it, as it would with scales taken from every
batch. Weights have a scale per column. Sums are exact, whatever the order of adding.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from models.language.reading.sequences import Sequences
from models.language.serving.calibration import activations
from models.language.serving.graph.editing import (
    Editor,
    attribute,
    constant,
    from_onnx,
    is_only_used_by,
    producer,
    rank,
    size,
    tidied,
)
from models.language.serving.scales import Eighths, eight_bits
from models.language.serving.weights.writing import to_onnx_spilling

Floats = NDArray[np.float32]

_PRODUCT: Final = "MatMulIntegerToFloat"
_LARGE_TABLE: Final = 1 << 14  # numbers


@dataclass(frozen=True)
class _Product:
    """A matrix product with constant weights, and the bias added to it."""

    node: ir.Node
    value: ir.Value
    weights: Floats  # (inputs, outputs)
    bias: Floats | None
    output: ir.Value


@dataclass(frozen=True)
class Rounded:
    """A network and how each of its products over tokens is brought to eight bits."""

    model: onnx.ModelProto
    eighths: dict[str, Eighths]  # by the value multiplied, lowest in the network first


def rounded(model: onnx.ModelProto, sample: Sequences, pad_id: int) -> Rounded:
    """Scales for the products of `model` over all tokens, from what `sample` makes of them.

    Products over one row per text stay as they are: they cost next to nothing.
    """
    groups = _groups(from_onnx(model))
    read = activations(model, list(groups), sample, pad_id)
    eighths = {}
    for name, products in groups.items():  # one at a time: together they are the whole network
        weights = np.concatenate([product.weights for product in products], axis=1)
        eighths[name] = eight_bits(read[name], weights)
    return Rounded(model, eighths)


def quantised(given: Rounded, spared: float = 0.0, data: Path | None = None) -> onnx.ModelProto:
    """The network with its products in int8, but for a share of them, the lowest, left in floats.

    What is lost low in a network grows on its way up. Weights that are too many for a protobuf go
    to the file `data`, where one is given.
    """
    graph = from_onnx(given.model)
    editor = Editor(graph, "int8")
    groups = list(_groups(graph).items())
    for name, products in groups[round(spared * len(groups)) :]:
        _replace(editor, products, given.eighths[name])
    _halve_tables(editor)
    return to_onnx_spilling(tidied(graph), data)


def _groups(graph: ir.Model) -> dict[str, list[_Product]]:
    """Products by what they multiply: those of one value share its rounding."""
    groups: dict[str, list[_Product]] = {}
    for node in graph.graph:
        found = _product(node)
        if found is not None:
            groups.setdefault(str(found.value.name), []).append(found)
    return groups


def _halve_tables(editor: Editor) -> None:
    """Keeps tables of vectors in 16 bits: half of the file, and what it loses is nothing here."""
    for node in list(editor.graph):
        table = constant(node.inputs[0]) if node.op_type == "Gather" else None
        if table is None or table.dtype != np.float32 or table.size < _LARGE_TABLE:
            continue
        if np.abs(table).max() > np.finfo(np.float16).max:
            continue
        half = editor.constant(table.astype(np.float16))
        output = node.outputs[0]
        found = editor.before(
            node, "Gather", [half, node.inputs[1]], axis=attribute(node, "axis", 0)
        )
        found = editor.before(node, "Cast", [found], output, to=int(ir.DataType.FLOAT))
        output.replace_all_uses_with(found, replace_graph_outputs=True)


def _product(node: ir.Node) -> _Product | None:
    value = node.inputs[0] if node.op_type == "MatMul" else None
    if value is None or rank(value) != 3 or size(value, 1) == 1:
        return None
    weights = constant(node.inputs[1])
    if weights is None or weights.ndim != 2 or weights.dtype != np.float32:
        return None
    output = node.outputs[0]
    users = [use for use, _ in output.uses()]
    if len(users) == 1 and users[0].op_type == "Add" and is_only_used_by(output, users[0]):
        for given in users[0].inputs:
            bias = constant(given)
            if bias is not None and bias.shape == weights.shape[1:]:
                return _Product(node, value, weights, bias, users[0].outputs[0])
    return _Product(node, value, weights, None, output)


def _replace(editor: Editor, products: list[_Product], eighths: Eighths) -> None:
    place, value = products[0].node, products[0].value
    gelu = producer(value, "Gelu")
    if gelu is not None:
        # Three quarters of the time, and off by 5e-4 at most, which is less than the rounding.
        gelu.attributes["approximate"] = ir.AttrString("approximate", "tanh")
    given, largest = value, None
    if eighths.factors is not None:
        given = editor.before(place, "Mul", [given, editor.constant(eighths.factors)], value)
    if eighths.middle is not None:
        given = editor.before(place, "Sub", [given, editor.constant(eighths.middle)], value)
    if eighths.by_row:
        largest = _row_largest(editor, place, given, eighths)
        # Its reciprocal once per row: a product is quicker than a quotient for every input.
        given = editor.before(
            place, "Mul", [given, editor.before(place, "Reciprocal", [largest])], value
        )
    scale, zero = editor.constant(eighths.scale), editor.constant(eighths.zero)
    rounded = editor.before(place, "QuantizeLinear", [given, scale, zero])
    start = 0
    for product in products:
        columns = slice(start, start + product.weights.shape[1])
        start = columns.stop
        shift = eighths.shift[columns]
        bias = editor.constant(shift if product.bias is None else shift + product.bias)
        inputs = [
            rounded,
            editor.constant(eighths.weights[:, columns]),
            scale,
            editor.constant(eighths.weight_scales[columns]),
            zero,
            None,
            bias,
        ]
        node, like = product.node, product.output
        if largest is None:
            made = editor.before(node, _PRODUCT, inputs, like, contrib=True)
        else:
            made = editor.before(node, _PRODUCT, inputs[:5], like, contrib=True)
            made = editor.before(node, "Mul", [made, largest], like)
            made = editor.before(node, "Add", [made, bias], like)
        product.output.replace_all_uses_with(made, replace_graph_outputs=True)


def _row_largest(editor: Editor, place: ir.Node, given: ir.Value, eighths: Eighths) -> ir.Value:
    sought = editor.before(place, "Abs", [given], given) if eighths.two_sided else given
    last = editor.constant(np.array([-1], np.int64))
    largest = editor.before(place, "ReduceMax", [sought, last], keepdims=1)
    return editor.before(place, "Max", [largest, editor.constant(np.array(1e-6, np.float32))])
