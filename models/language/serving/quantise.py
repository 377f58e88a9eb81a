"""An exported network with its matrix products in eight bits.

Activations get a scale once, from texts like those that will be asked, or one for every token, so
that no text's answer depends on the texts beside it, as it would with scales taken from every
batch. Weights have a scale per column. Sums are exact, whatever the order of adding.
"""

from dataclasses import dataclass
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
    rank,
    size,
    tidied,
    to_onnx,
)
from models.language.serving.scales import Eighths, eight_bits

Floats = NDArray[np.float32]

_PRODUCT: Final = "MatMulIntegerToFloat"
_LARGE_TABLE: Final = 1 << 14  # numbers


@dataclass(frozen=True)
class _Product:
    """A matrix product with constant weights, and the bias added to it."""

    node: ir.Node
    weights: Floats  # (inputs, outputs)
    bias: Floats | None
    output: ir.Value


def quantised(model: onnx.ModelProto, sample: Sequences, pad_id: int) -> onnx.ModelProto:
    """`model` with the products over all tokens in int8, scaled by what `sample` makes of them.

    Products over one row per text stay as they are: they cost next to nothing.
    """
    graph = from_onnx(model)
    groups: dict[ir.Value, list[_Product]] = {}
    for node in graph.graph:
        found = _product(node)
        if found is not None and node.inputs[0] is not None:
            groups.setdefault(node.inputs[0], []).append(found)
    read = activations(model, [str(value.name) for value in groups], sample, pad_id)
    editor = Editor(graph, "int8")
    for value, products in groups.items():
        weights = np.concatenate([product.weights for product in products], axis=1)
        _replace(editor, value, products, eight_bits(read[str(value.name)], weights))
    _halve_tables(editor)
    return to_onnx(tidied(graph))


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
    if node.op_type != "MatMul" or rank(node.inputs[0]) != 3 or size(node.inputs[0], 1) == 1:
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
                return _Product(node, weights, bias, users[0].outputs[0])
    return _Product(node, weights, None, output)


def _replace(editor: Editor, value: ir.Value, products: list[_Product], eighths: Eighths) -> None:
    place = products[0].node
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
