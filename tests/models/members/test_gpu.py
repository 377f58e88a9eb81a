"""Language members are trained on a GPU in bf16, and answer from a CPU as they were trained."""

from pathlib import Path

import pytest

from models.language.serving.gate import complaint, measure_gap
from models.language.serving.options import EXACT, ServingOptions
from models.member import Member
from models.registry import make_member, member_class
from models.workbench import Workbench
from tests.contracts.test_member import TINY_LANGUAGE
from tests.gpu import needs_gpu, using_gpu
from tests.tiny import tiny_pairs

pytestmark = needs_gpu

BENCH = "bench"


def fitted(kind: str, folder: Path, training, **options) -> Member:
    pairs = tiny_pairs()
    training = {**TINY_LANGUAGE["training"], "epochs": 2, "precision": "bf16", **training}
    member = make_member(kind, "x", {**TINY_LANGUAGE, "training": training, **options})
    with using_gpu():
        return member.fit(pairs, pairs, Workbench(folder / BENCH))


def assert_served_as_trained(kind: str, member: Member, folder: Path, monkeypatch) -> None:
    """By the gate of the export; the trained network answers from the GPU."""
    pairs = tiny_pairs().without_labels()
    served = member.predict_logits(pairs)
    member.save(folder / "x")
    monkeypatch.setenv("ESCI_LANGUAGE_ENGINE", "torch")
    with using_gpu():
        trained = member_class(kind).load(folder / "x").predict_logits(pairs)
    assert complaint(EXACT, measure_gap(trained, served), ServingOptions()) == ""
    assert (served != served[0]).any()


@pytest.mark.parametrize("way", ["top layer on kept activations", "all layers and an adversary"])
def test_a_cross_encoder(way, tmp_path, monkeypatch):
    is_top = way.startswith("top")
    training = {"trained_layers": 1} if is_top else {"fgm": 0.2}
    member = fitted("cross_encoder", tmp_path, training)
    assert len(list((tmp_path / BENCH).glob("activations-*.bin"))) == is_top
    assert_served_as_trained("cross_encoder", member, tmp_path, monkeypatch)


def test_a_bi_encoder(tmp_path, monkeypatch):
    # Stored whole, so that nothing but the network can tell the two apart.
    options = {"pooling": "mean", "vectors": "fp32", "metric": {"loss": "info_nce"}}
    member = fitted("bi_encoder", tmp_path, {}, **options)
    assert_served_as_trained("bi_encoder", member, tmp_path, monkeypatch)
