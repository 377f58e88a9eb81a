"""Attention as one operation in place of the dozen it is exported as."""

from typing import Final

import numpy as np
import onnx_ir as ir

from models.language.serving.graph.editing import (
    Editor,
    attribute,
    constant,
    producer,
    rank,
    size,
)

_HEADS_FIRST: Final = (0, 2, 1, 3)
_TRANSPOSED: Final = (0, 2, 3, 1)  # heads first, and the length last


def fuse_attention(model: ir.Model) -> int:
    """Joins what it recognises, in place, and returns how many.

    It knows scaled dot-product attention as torch exports it: heads split from one matrix of
    states, any mask, as many key heads as query heads. Anything else stays as it is.
    """
    editor, fused = Editor(model, "attention"), 0
    for node in list(model.graph):
        if node.op_type == "Softmax" and _fused(node, editor):
            fused += 1
    return fused


def _fused(softmax: ir.Node, editor: Editor) -> bool:
    after = _context(softmax)
    scores, factor, mask = _scores(softmax.inputs[0])
    if after is None or scores is None:
        return False
    values, joined = after
    query, query_factor = _unscaled(scores.inputs[0])
    key, key_factor = _unscaled(scores.inputs[1])
    split = [_split(query), _split(_untransposed(key)) or _split(key, _TRANSPOSED), _split(values)]
    states = [found[0] for found in split if found is not None]
    heads = {found[1] for found in split if found is not None}
    if len(states) < len(split) or len(heads) != 1:
        return False
    if mask is not None and (rank(mask) != 4 or size(mask, 1) != 1):
        return False
    out = joined.outputs[0]
    given: list[ir.Value | None] = [*states]
    if mask is not None:
        given.append(_finite(mask, editor))
    n_heads = heads.pop()
    answer = editor.before(
        joined,
        "Attention",
        given,
        out,
        q_num_heads=n_heads,
        kv_num_heads=n_heads,
        scale=float(factor * query_factor * key_factor),
    )
    out.replace_all_uses_with(answer, replace_graph_outputs=True)
    return True


def _context(softmax: ir.Node) -> tuple[ir.Value, ir.Node] | None:
    """The values that are weighted, and where heads are joined again."""
    weights = softmax.outputs[0]
    users = {use for use, _ in weights.uses()}
    # torch guards rows without any token, whose softmax would be no number.
    guards = [use for use in users if use.op_type == "Where"]
    if guards:
        users -= {*guards, *(use for use in users if use.op_type == "IsNaN")}
        users |= {use for use, _ in guards[0].outputs[0].uses()}
    if len(users) != 1:
        return None
    product = users.pop()
    if product.op_type != "MatMul":
        return None
    after = [use for use, _ in product.outputs[0].uses()]
    if len(after) != 1 or after[0].op_type != "Transpose":
        return None
    if tuple(attribute(after[0], "perm")) != _HEADS_FIRST:
        return None
    joined = [use for use, _ in after[0].outputs[0].uses()]
    if len(joined) != 1 or joined[0].op_type != "Reshape" or rank(joined[0].outputs[0]) != 3:
        return None
    values = product.inputs[1]
    return None if values is None else (values, joined[0])


def _scores(value: ir.Value | None) -> tuple[ir.Node | None, float, ir.Value | None]:
    """The product of queries and keys, the factor after it, and the mask added to both."""
    added = producer(value, "Add")
    choices = [(value, None)] if added is None else [tuple(added.inputs), tuple(added.inputs)[::-1]]
    for scaled, mask in choices:
        scores, factor = _unscaled(scaled)
        product = producer(scores, "MatMul")
        if product is not None and len(product.outputs[0].uses()) == 1:
            return product, factor, mask
    return None, 1.0, None


def _unscaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """What a constant was multiplied with, or divided by one, and the factor."""
    node = producer(value, "Mul", "Div")
    factor = constant(node.inputs[1]) if node is not None else None
    if node is None or factor is None or factor.size != 1:
        return value, 1.0
    number = float(factor.reshape(()))
    return node.inputs[0], number if node.op_type == "Mul" else 1 / number


def _untransposed(value: ir.Value | None) -> ir.Value | None:
    """The keys with heads first, behind their transposition: flat, as torch does it, or plain."""
    node = producer(value, "Transpose")
    if node is not None and tuple(attribute(node, "perm")) == (0, 1, 3, 2):
        return node.inputs[0]
    shaped = producer(value, "Reshape")
    turned = producer(shaped.inputs[0], "Transpose") if shaped is not None else None
    if turned is None or tuple(attribute(turned, "perm")) != (0, 2, 1):
        return None
    flat = producer(turned.inputs[0], "Reshape")
    return flat.inputs[0] if flat is not None else None


def _split(
    value: ir.Value | None, order: tuple[int, ...] = _HEADS_FIRST
) -> tuple[ir.Value, int] | None:
    """The states, (texts, length, width), that `value` is the heads of, and how many they are."""
    node = producer(value, "Transpose")
    if node is None or tuple(attribute(node, "perm")) != order:
        return None
    shaped = producer(node.inputs[0], "Reshape")
    states = shaped.inputs[0] if shaped is not None else None
    heads, each = size(node.inputs[0], 2), size(node.inputs[0], 3)
    if states is None or rank(states) != 3 or heads is None or each is None:
        return None
    return (states, heads) if size(states, 2) == heads * each else None


def _finite(mask: ir.Value, editor: Editor) -> ir.Value:
    """`mask` with a large number for minus infinity, which a row without tokens cannot bear."""
    node = producer(mask, "Where")
    if node is None:
        return mask
    for at, part in enumerate(node.inputs):
        numbers = constant(part)
        if numbers is not None and numbers.dtype == np.float32 and np.isneginf(numbers).any():
            node.replace_input_with(at, editor.constant(np.maximum(numbers, np.float32(-1e9))))
    return mask
