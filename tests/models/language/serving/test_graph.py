"""Rewriting a graph leaves its answers as they were, and does what it is for."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from models.language.serving.graph.attention import fuse_attention
from models.language.serving.graph.editing import from_onnx, producer, tidied, to_onnx
from models.language.serving.graph.selection import select_early
from models.language.serving.network import onnx_network
from models.language.serving.quantise import quantised, rounded
from tests.models.language.serving.networks import Classifier, Mean, exported, plainly, texts

LAYERS = 3


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def run(model: onnx.ModelProto, **given: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, given)[0]


def inputs(texts_: int, length: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(texts_)
    mask = np.arange(length) < generator.integers(1, length + 1, size=(texts_, 1))
    return {
        "ids": generator.integers(1, 100, size=(texts_, length)) * mask,
        "mask": mask.astype(np.int64),
        "segments": np.zeros((texts_, length), np.int64),
    }


@pytest.mark.parametrize("kind", [Classifier, Mean])
def test_rewriting_leaves_the_answers(kind):
    plain = plainly(kind)
    graph = from_onnx(plain)
    assert fuse_attention(graph) == LAYERS
    assert select_early(graph) == (kind is Classifier)
    rewritten = to_onnx(tidied(graph))
    onnx.checker.check_model(plain)
    found = kinds(rewritten)
    assert found["Attention"] == LAYERS - (kind is Classifier)
    assert found["Softmax"] == (kind is Classifier)
    assert found["Transpose"] == (kind is Classifier)  # heads are split inside of it
    for shape in ((1, 1), (1, 9), (5, 1), (7, 33)):
        given = inputs(*shape)
        expected = run(plain, **given)
        np.testing.assert_allclose(run(rewritten, **given), expected, rtol=1e-4, atol=1e-5)


def test_the_last_layer_works_on_the_selected_token_alone():
    model = onnx.load(exported() / "fp32.onnx")
    inferred = {
        value.name: [size.dim_value or 0 for size in value.type.tensor_type.shape.dim]
        for value in model.graph.value_info
    }
    weights = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    rows = Counter(
        inferred[node.output[0]][1]
        for node in model.graph.node
        if node.op_type == "MatMul" and weights.get(node.input[1]) == 2
    )
    # Of the last layer's six products, none sees every token: keys and values are not made.
    assert rows == {0: (LAYERS - 1) * 6, 1: 4}
    assert kinds(model)["Attention"] == LAYERS - 1


def test_another_token_can_be_selected():
    class Last(Classifier):
        def pooled(self, states: Tensor, mask: Tensor) -> Tensor:
            del mask
            return self.head(states[:, -1])

    plain = plainly(Last)
    graph = from_onnx(plain)
    fuse_attention(graph)
    assert select_early(graph)
    given = inputs(4, 12)
    expected = run(plain, **given)
    np.testing.assert_allclose(run(to_onnx(tidied(graph)), **given), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bends", ["values", "states"])
def test_attention_whose_values_are_not_linear_in_the_states_of_keys_stays_one(bends):
    graph = from_onnx(plainly(Classifier))
    fuse_attention(graph)
    node, at = [node for node in graph.graph if node.op_type == "Attention"][-1], 2
    if bends == "states":  # values are linear, but in others than the keys
        node, at = producer(producer(node.inputs[2], "Add").inputs[0], "MatMul"), 0
    bent = ir.node("Tanh", [node.inputs[at]])
    bent.outputs[0].shape, bent.outputs[0].type = node.inputs[at].shape, node.inputs[at].type
    graph.graph.insert_before(node, bent)
    node.replace_input_with(at, bent.outputs[0])
    expected = run(to_onnx(graph), **inputs(4, 12))
    assert select_early(graph)
    selected = to_onnx(tidied(graph))
    assert kinds(selected)["Attention"] == LAYERS
    np.testing.assert_allclose(run(selected, **inputs(4, 12)), expected, rtol=1e-4, atol=1e-5)


def test_states_that_are_needed_elsewhere_stay_whole():
    class Both(Classifier):
        def pooled(self, states: Tensor, mask: Tensor) -> Tensor:
            del mask
            return self.head(states[:, 0] + states.mean(dim=1))

    plain = plainly(Both)
    graph = from_onnx(plain)
    fuse_attention(graph)
    select_early(graph)
    given = inputs(4, 12)
    expected = run(plain, **given)
    np.testing.assert_allclose(run(to_onnx(tidied(graph)), **given), expected, rtol=1e-4, atol=1e-5)


def test_every_product_over_tokens_is_in_int8():
    found = kinds(onnx.load(exported() / "int8.onnx"))
    assert found["MatMulIntegerToFloat"] == (LAYERS - 1) * 6
    assert found["MatMul"] == 4 + 4  # one row per text, and where that row attends
    # Scales that a batch decides on would let texts disturb each other.
    assert not found["DynamicQuantizeLinear"] + found["DynamicQuantizeMatMul"]


def test_gelu_is_hyperbolic_where_it_is_rounded_next():
    for variant, expected in (("fp32", b"none"), ("int8", b"tanh")):
        nodes = onnx.load(exported() / f"{variant}.onnx").graph.node
        forms = [
            onnx.helper.get_node_attr_value(node, "approximate")
            for node in nodes
            if node.op_type == "Gelu"
        ]
        # The last layer's is one row per text, which is not rounded.
        assert forms == [expected] * (LAYERS - 1) + [b"none"]


def test_quantising_again_gives_the_same_bytes():
    model = onnx.load(exported() / "fp32.onnx")
    first, second = (quantised(rounded(model, texts(50), 0)).SerializeToString() for _ in range(2))
    assert first == second


def test_a_network_without_any_product_stays_as_it_is():
    class Nothing(torch.nn.Module):
        def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
            return (ids * mask + segments).sum(1, keepdim=True).float()

    model = onnx_network(Nothing(), texts(4), takes_segments=True)
    given = inputs(3, 7)
    expected = run(model, **given)
    np.testing.assert_array_equal(run(quantised(rounded(model, texts(20), 0)), **given), expected)


def test_the_lowest_products_can_be_spared():
    scales = rounded(onnx.load(exported() / "fp32.onnx"), texts(50), 0)
    some, none = (kinds(quantised(scales, share)) for share in (0.5, 0.999))
    groups = (LAYERS - 1) * 4
    assert some["MatMulIntegerToFloat"] == 6  # queries, keys and values share their input
    assert len(scales.eighths) == groups
    assert none["MatMulIntegerToFloat"] == 0
    model = quantised(scales, 0.5)
    names = [node.op_type for node in model.graph.node if "MatMul" in node.op_type]
    assert names.index("MatMulIntegerToFloat") == 6
