"""What the machine can do at its best, and what a network spends its time on, by onnxruntime."""

import json
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from models.language.reading.sequences import Sequences, padded, token_batches

# Operations worth a name of their own; the rest are added up.
_NAMES = {
    "MatMulIntegerToFloat": "products in int8",
    "MatMul": "products in float32",
    "Gemm": "products in float32",
    "Attention": "attention",
    "Gelu": "GELU",
    "LayerNormalization": "normalising",
}
_BATCHES, _REPEATS = 20, 5


def gigaflops_per_second(kind: str) -> float:
    """Billions of multiplications and additions per second, on one core, of a product like ours."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    rows, inner, columns = 512, 384, 1536
    generator = np.random.default_rng(0)
    types: dict[str, tuple[str, type[Any], type[Any], int, int]] = {
        "float32": ("MatMul", np.float32, np.float32, TensorProto.FLOAT, TensorProto.FLOAT),
        "int8": ("MatMulInteger", np.uint8, np.int8, TensorProto.UINT8, TensorProto.INT32),
    }
    operation, given, weights, code, result = types[kind]
    right = generator.integers(-100, 100, size=(inner, columns)).astype(weights)
    graph = helper.make_graph(
        [helper.make_node(operation, ["a", "b"], ["y"])],
        kind,
        [helper.make_tensor_value_info("a", code, [rows, inner])],
        [helper.make_tensor_value_info("y", result, [rows, columns])],
        [numpy_helper.from_array(right, "b")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(made)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(made.SerializeToString(), options)
    left = generator.integers(0, 100, size=(rows, inner)).astype(given)
    best = float("inf")
    for _ in range(200):
        started = time.perf_counter()
        session.run(None, {"a": left})
        best = min(best, time.perf_counter() - started)
    return 2 * rows * inner * columns / best / 1e9


def operator_shares(
    network: Path, texts: Sequences, pad_id: int, batch_tokens: int
) -> dict[str, float]:
    """The share of the time of each sort of operation, largest first, on one core.

    Every operation counts with its fastest run, which is what it takes when left in peace.
    """
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as scratch:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = ort.InferenceSession(str(network), options)
        names = [given.name for given in session.get_inputs()]
        batches = list(token_batches(texts.lengths(), batch_tokens, 256))
        drawn = np.linspace(0, len(batches) - 1, _BATCHES).astype(int)
        for number in drawn:
            batch = padded(texts, batches[number], pad_id)
            for _ in range(_REPEATS):
                session.run(None, {name: getattr(batch, name) for name in names})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[str, list[int]] = defaultdict(list)
    operations = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"]].append(event["dur"])
            operations[event["name"]] = event["args"]["op_name"]
    spent: Counter[str] = Counter()
    for name, took in times.items():
        runs = np.array(took).reshape(_BATCHES, _REPEATS)
        spent[_NAMES.get(operations[name], "all else")] += int(runs.min(axis=1).sum())
    return {name: part / spent.total() for name, part in spent.most_common()}
