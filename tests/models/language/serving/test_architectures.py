"""Every architecture is exported, in float32 and in int8, and answers as torch does."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from models.language.backbones import find_backbone
from models.language.networks.cross import CrossNetwork
from models.language.networks.encoder import open_encoder
from models.language.reading.reader import TextOptions
from models.language.serving.export import export_form
from models.language.serving.form import Form
from models.language.tiny import ARCHITECTURES
from tests.models.language.serving.networks import OPTIONS, answers
from tests.tiny import tiny_pairs

# What torch exports of these is the attention that one operation stands for.
FUSED = {"bert", "xlm-roberta", "big_bird"}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_architecture_is_served(architecture, tmp_path):
    pairs = tiny_pairs().without_labels()
    texts = [*pairs.queries.texts, *pairs.products.title]
    backbone = find_backbone(f"tiny:{architecture}", tmp_path / "backbone", texts=texts)
    encoder, reader = open_encoder(backbone, TextOptions(max_tokens=64))
    network = CrossNetwork(encoder).eval()
    read = reader.read_pairs(pairs)
    report = export_form(
        network,
        tmp_path / "form",
        sample=read,
        pad_id=reader.layout.pad_id,
        takes_segments=encoder.takes_segments,
        options=replace(OPTIONS, flip_rate=0.5),
        answers=lambda run: run(read),
        query_rows=pairs.query_rows,
    )
    assert set(report.variants) == {"fp32", "int8"}
    exact = onnx.load(tmp_path / "form" / "fp32.onnx").graph
    names = [given.name for given in exact.input]
    assert names == ["ids", "mask", "segments"][: 3 if encoder.takes_segments else 2]
    attending = [node for node in exact.node if node.op_type == "Attention"]
    # In the last layer one token attends, without keys and values being made.
    assert len(attending) == (encoder.n_layers - 1 if architecture in FUSED else 0)
    form = Form.load(tmp_path / "form")
    expected = answers(network, read)
    np.testing.assert_allclose(form.run(read, "fp32"), expected, rtol=1e-4, atol=1e-5)
    error = np.abs(form.run(read, "int8") - expected).max()
    assert 0 < error < 0.2 * expected.std()
    kinds = {node.op_type for node in onnx.load(tmp_path / "form" / "int8.onnx").graph.node}
    assert "MatMulIntegerToFloat" in kinds
    alone = [form.run(read.take(np.array([row])), "int8")[0] for row in range(len(read))]
    np.testing.assert_allclose(form.run(read, "int8"), alone, rtol=1e-5, atol=1e-5)
