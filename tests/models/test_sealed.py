import json

import numpy as np
import pytest

from models.errors import ReleaseError
from models.files import read_json, write_json
from models.pairs import LabelledPairs
from models.sealed import (
    ABOUT,
    Workshop,
    how_made,
    open_sealed,
    pairs_sha256,
    seal,
)
from models.training.curve import Curve, Point
from models.versions import code_digest, library_versions
from models.workbench import Workbench
from tests.tiny import tiny_pairs

OURS = {"kind": "parrot", "format_number": 3}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "member" / "deep").mkdir(parents=True)
    (tmp_path / "member" / "deep" / "weights.safetensors").write_bytes(b"weights")
    (tmp_path / "member" / "reader.json").write_text("{}")
    seal(tmp_path / "member", name="polly", options={"a": 1}, made={"seed": 7}, **OURS)
    return tmp_path / "member"


def test_a_sealed_folder_opens_and_says_what_was_written(folder):
    about = open_sealed(folder, **OURS).about
    assert about["name"] == "polly"
    assert about["options"] == {"a": 1}
    assert about["made"] == {"seed": 7}
    assert sorted(about["files"]) == ["deep/weights.safetensors", "reader.json"]


def test_a_copy_is_the_same_to_the_byte_and_has_nothing_of_what_it_replaces(folder, tmp_path):
    target = tmp_path / "copy"
    target.mkdir()
    (target / ABOUT).write_text("of another")
    (target / "notes.txt").write_text("somebody's")
    open_sealed(folder, **OURS).copy_to(target)
    for path in (ABOUT, "reader.json", "deep/weights.safetensors"):
        assert (target / path).read_bytes() == (folder / path).read_bytes()
    assert (target / "notes.txt").read_text() == "somebody's"
    assert open_sealed(target, **OURS).about == open_sealed(folder, **OURS).about


def test_a_copy_onto_itself_leaves_it_whole(folder):
    open_sealed(folder, **OURS).copy_to(folder)
    open_sealed(folder, **OURS)


def test_an_interrupted_copy_is_no_member(folder, tmp_path, monkeypatch):
    sealed, target = open_sealed(folder, **OURS), tmp_path / "copy"
    sealed.copy_to(target)

    def fails(source, to):
        raise InterruptedError

    monkeypatch.setattr("shutil.copyfile", fails)
    with pytest.raises(InterruptedError):
        sealed.copy_to(target)
    with pytest.raises(ReleaseError, match="holds no member"):
        open_sealed(target, **OURS)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda about: about | {"kind": "budgie"}, "budgie"),
        (lambda about: about | {"format": 4}, "format 4"),
        (lambda about: about | {"labels": ["E", "S", "I", "C"]}, "labels"),
        (lambda about: about | {"files": {"../outside": "0"}}, "outside the folder"),
        (lambda about: about | {"files": {"absent": "0"}}, "absent"),
        (lambda about: about | {"files": {"reader.json": "0"}}, "SHA-256"),
        (lambda about: about | {"options": None}, "no options"),
        (lambda _: [], "kind None"),
    ],
)
def test_a_folder_that_is_not_what_it_should_be_is_refused(folder, harm, said):
    write_json(folder / ABOUT, harm(read_json(folder / ABOUT)))
    with pytest.raises(ReleaseError, match=said) as error:
        open_sealed(folder, **OURS)
    assert str(folder) in str(error.value)


def test_a_workshop_goes_with_its_owner():
    class Owner:
        pass

    owner = Owner()
    workshop = Workshop(owner, "polly")
    (workshop.path / "file").write_text("")
    assert workshop.path.is_dir()
    del owner
    assert not workshop.path.exists()


def test_a_workshop_lies_on_the_bench_where_there_is_one(tmp_path, monkeypatch):
    class Owner:
        pass

    owner, bench = Owner(), Workbench(tmp_path / "bench")
    workshop = Workshop(owner, "polly", bench)
    assert workshop.path.parent == tmp_path / "bench"
    # What a killed process left is taken away by the next; what one still has is not.
    monkeypatch.setattr("models.files._ABANDONED_SECONDS", -1.0)
    (tmp_path / "bench" / ".polly.left.part").mkdir()
    with bench.scratch("polly") as other:
        assert set((tmp_path / "bench").iterdir()) == {workshop.path, other}
    del owner
    assert list((tmp_path / "bench").iterdir()) == []


def test_the_digest_of_pairs_changes_with_their_texts_labels_and_order():
    pairs = tiny_pairs()
    turned = LabelledPairs(
        pairs.queries,
        pairs.products,
        pairs.query_rows,
        pairs.product_rows,
        (pairs.labels + 1).astype(np.int8) % 4,
    )
    others = [turned, pairs.take(np.arange(len(pairs))[::-1]), pairs.take(np.arange(23))]
    digests = {pairs_sha256(p) for p in (pairs, *others)}
    assert len(digests) == 4
    assert pairs_sha256(pairs.compact()) == pairs_sha256(pairs)


def test_how_it_was_made_is_plain():
    pairs = tiny_pairs()
    made = how_made(
        train=pairs, valid=pairs, seed=7, curve=Curve((Point(1, 1.0, 0.5),)), more={"a": [1]}
    )
    assert json.loads(json.dumps(made)) == made
    assert made["train"] == {"pairs": 24, "sha256": pairs_sha256(pairs)}
    assert made["versions"] == library_versions()
    assert made["versions"]["code"] == code_digest()
    exporting = {"peft", "pytorch-metric-learning", "onnx", "onnxscript"}
    assert {"python", "numpy", "torch", *exporting} <= set(made["versions"])
    assert made["more"] == {"a": [1]}


def test_what_other_code_made_is_opened(tmp_path, monkeypatch):
    # What may be read is for the format to say.
    pairs = tiny_pairs()
    made = how_made(train=pairs, valid=pairs, seed=7, curve=Curve((Point(1, 1.0, 0.5),)))
    seal(tmp_path, kind="k", format_number=1, name="n", options={}, made=made)
    monkeypatch.setattr("models.versions.code_digest", lambda: "another")
    assert library_versions() != made["versions"]
    opened = open_sealed(tmp_path, kind="k", format_number=1)
    assert opened.about["made"]["versions"] == made["versions"]
