"""What every rewriting of a graph needs: to look at values, and to put nodes before others."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)

CONTRIB: Final = "com.microsoft"  # operations of onnxruntime beyond the standard's


def producer(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    """The node that makes `value`, where it is of one of `kinds`."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type in kinds else None


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The content of a value that is the same for every input; None of any other."""
    if value is None or value.const_value is None or value.producer() is not None:
        return None
    return np.asarray(value.const_value.numpy())


def rank(value: ir.Value | None) -> int | None:
    """The number of dimensions, where it is known."""
    return None if value is None or value.shape is None else len(value.shape)


def size(value: ir.Value | None, axis: int) -> int | None:
    """The length along an axis, where it is known and the same for every input."""
    if value is None or value.shape is None or axis >= len(value.shape):
        return None
    found = value.shape[axis]
    return found if isinstance(found, int) else None


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of an attribute of a node."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def is_only_used_by(value: ir.Value, node: ir.Node) -> bool:
    """Whether nothing but one node reads `value`."""
    return not value.is_graph_output() and all(use is node for use, _ in value.uses())


class Editor:
    """Adds nodes and constants to a graph, each under a name of its own."""

    def __init__(self, model: ir.Model, prefix: str) -> None:
        self.model = model
        self.graph = model.graph
        self._prefix = prefix
        self._count = 0

    def name(self) -> str:
        """A name that the graph does not have yet."""
        self._count += 1
        return f"{self._prefix}_{self._count}"

    def constant(self, content: NDArray[Any]) -> ir.Value:
        """A value that holds `content`."""
        name = self.name()
        tensor = ir.tensor(np.ascontiguousarray(content).reshape(np.shape(content)), name=name)
        value = ir.Value(
            name=name,
            shape=ir.Shape(content.shape),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        self.graph.register_initializer(value)
        return value

    def before(
        self,
        place: ir.Node,
        kind: str,
        inputs: Sequence[ir.Value | None],
        like: ir.Value | None = None,
        **attributes: Any,
    ) -> ir.Value:
        """The output of a new node put before `place`, of the type and shape of `like`."""
        domain = CONTRIB if attributes.pop("contrib", False) else ""
        node = ir.node(kind, inputs, attributes, domain=domain, name=self.name())
        output = node.outputs[0]
        output.name = self.name()
        if like is not None:
            output.type, output.shape = like.type, like.shape
        self.graph.insert_before(place, node)
        if domain:
            self.graph.opset_imports.setdefault(CONTRIB, 1)
        return output


def tidied(model: ir.Model) -> ir.Model:
    """`model` without nodes that nothing reads, and with equal nodes joined."""
    for change in (
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
        RemoveUnusedOpsetsPass(),
    ):
        model = change(model).model
    return model


def ancestors(values: Iterable[ir.Value | None]) -> set[ir.Value]:
    """`values` and all they are made of."""
    found: set[ir.Value] = set()
    todo = [value for value in values if value is not None]
    while todo:
        value = todo.pop()
        if value in found:
            continue
        found.add(value)
        node = value.producer()
        if node is not None:
            todo += [given for given in node.inputs if given is not None]
    return found


def from_onnx(model: onnx.ModelProto) -> ir.Model:
    """A graph to rewrite."""
    return ir.from_proto(model)


def to_onnx(model: ir.Model) -> onnx.ModelProto:
    """The graph as it is written to a file."""
    return ir.to_proto(model)
