"""The comparison with another library's back-ends asks our export for what it has."""

from dataclasses import replace

from benchmarks.cross_encoder_ours import OURS
from benchmarks.language_serving import print_parts, ways_of
from models.language.serving.gate import UNMEASURED
from models.language.serving.manifest import FORMAT, Exported, FormReport

VARIANTS = {name: Exported(f"{name}.onnx", "", UNMEASURED, {}) for name in ("fp32", "int8")}
BOTH = FormReport(FORMAT, 0, 4, 256, VARIANTS, {}, "a machine", 1)


def test_ways_that_need_what_the_gate_left_out_are_skipped_with_the_reason():
    assert ways_of(BOTH) == (list(OURS), {})
    exact = {"fp32": VARIANTS["fp32"]}
    there, missing = ways_of(replace(BOTH, variants=exact, left_out={"int8": "too many"}))
    assert there == ["ours", "ours, float32", "ours, OpenVINO"]
    assert missing == dict.fromkeys(["ours, int8", "ours, int8 whatever the doubt"], "too many")
    _, unasked = ways_of(replace(BOTH, variants=exact))
    assert set(unasked.values()) == {"int8 was not asked for"}


def test_without_int8_its_parts_are_not_printed(capsys):
    print_parts(None, {"ours": {}})
    assert "Without int8" in capsys.readouterr().out
