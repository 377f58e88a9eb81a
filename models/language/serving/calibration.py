"""What the products of a network are given, seen on a sample of texts."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from models.language.reading.sequences import Sequences, padded
from models.language.serving.engines import asked_threads
from models.language.serving.weights.writing import openable

_TEXTS: Final = 128  # run one by one: padding is not what activations are like
_TOKENS: Final = 1024  # kept of them


def activations(
    model: onnx.ModelProto, values: Sequence[str], sample: Sequences, pad_id: int
) -> dict[str, NDArray[np.float32]]:
    """Rows, one per token, of each of `values`, drawn from those of the texts."""
    import onnxruntime as ort

    if not values:  # which onnxruntime would take for all
        return {}
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    known = {output.name for output in probe.graph.output}
    probe.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in values if name not in known
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = asked_threads()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with openable(probe) as given:
        session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    generator = np.random.default_rng(0)
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in values}
    for text in generator.permutation(len(sample))[:_TEXTS]:
        batch = padded(sample, np.array([text]), pad_id)
        found = session.run(list(values), {name: getattr(batch, name) for name in names})
        tokens = generator.permutation(batch.ids.shape[1])[: -(-_TOKENS // _TEXTS)]
        for name, value in zip(values, found, strict=True):
            rows[name].append(value[0, tokens])
    return {name: np.concatenate(parts) for name, parts in rows.items()}
