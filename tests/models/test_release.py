import json
import shutil

import numpy as np
import pytest

from models.errors import ReleaseError
from models.release import MANIFEST, PROBES, load_release, read_manifest
from models.release_registry import ReleaseRegistry
from tests.tiny import tiny_pairs, tiny_release


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("made"))


@pytest.fixture
def release(made, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(made, tmp_path / made.name)


def edit_manifest(folder, *, resign, **changes):
    """Change the manifest; `resign` gives it the id that fits, as a careful forger would."""
    path = folder / MANIFEST
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(value))
    if resign:
        del value["release_id"]
        path.write_text(json.dumps({**value, "release_id": "0" * 16}))
        with pytest.raises(ReleaseError, match="its content is") as caught:
            read_manifest(folder)
        found = str(caught.value).partition("its content is ")[2][:16].strip()
        path.write_text(json.dumps({**value, "release_id": found}))


def test_a_loaded_release_answers_as_the_members_it_was_made_of(made):
    release = load_release(made)
    assert release.release_id == made.name
    expected = [probe.probabilities for probe in release.probes]
    np.testing.assert_array_equal(
        release.ensemble.predict(tiny_pairs().without_labels()),
        np.array(expected, dtype=np.float32),
    )
    assert len({tuple(row) for row in expected}) > 6  # the probes tell pairs apart


def test_the_same_training_gives_the_same_release(made, tmp_path):
    assert tiny_release(tmp_path).name == made.name


def test_writing_over_an_equal_release_leaves_it_whole(made):
    assert tiny_release(made.parent) == made
    assert load_release(made).release_id == made.name
    assert [path.name for path in made.parent.iterdir()] == [made.name]


def test_every_changed_byte_is_noticed(release):
    for path in sorted(release.rglob("*")):
        if path.is_file():
            whole = path.read_bytes()
            middle = len(whole) // 2
            spoiled = bytearray(whole)
            spoiled[middle] ^= 1
            path.write_bytes(bytes(spoiled))
            with pytest.raises(ReleaseError):
                load_release(release)
            path.write_bytes(whole)
    load_release(release)


def test_a_missing_and_an_unknown_file_are_named(release):
    probes = (release / PROBES).read_bytes()
    (release / PROBES).unlink()
    with pytest.raises(ReleaseError, match=r"lacks probes\.json"):
        load_release(release)
    (release / PROBES).write_bytes(probes)
    (release / "extra.py").write_text("print('hello')")
    with pytest.raises(ReleaseError, match=r"holds extra\.py"):
        load_release(release)


def test_a_link_is_refused(release):
    (release / "link").symlink_to("/etc/hostname")
    with pytest.raises(ReleaseError, match="no plain file"):
        load_release(release)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "release format 99 and this code reads 1"),
        ({"labels": ["C", "E", "I", "S"]}, "orders its labels"),
        (
            {"columns": ["lexical:S", "lexical:E", "lexical:C", "lexical:I"]},
            "made with the columns",
        ),
        ({"gain_table": "mine"}, "known tables: esci-paper"),
        ({"colour": "red"}, "colour: unknown key"),
        ({"members": []}, "0 members and no aggregator"),
    ],
)
def test_a_foreign_manifest_is_refused_with_the_reason(release, changes, message):
    edit_manifest(release, resign="format" not in changes and "colour" not in changes, **changes)
    with pytest.raises(ReleaseError, match=message):
        load_release(release)


def test_a_member_cannot_name_its_way_out(release):
    members = json.loads((release / MANIFEST).read_text())["members"]
    edit_manifest(release, resign=True, members=[{**members[0], "name": "../lexical"}])
    with pytest.raises(ReleaseError, match="expected a plain name"):
        load_release(release)


def test_a_release_that_answers_otherwise_than_it_did_is_refused(release):
    import hashlib

    probes = json.loads((release / PROBES).read_text())
    probes[0]["probabilities"][0] += 0.01
    (release / PROBES).write_text(json.dumps(probes))
    files = json.loads((release / MANIFEST).read_text())["files"]
    files[PROBES] = hashlib.sha256((release / PROBES).read_bytes()).hexdigest()
    edit_manifest(release, resign=True, files=files)
    with pytest.raises(ReleaseError, match=r"off by 0\.01, allowed 0\.0001"):
        load_release(release)


def test_what_is_no_release_says_so(tmp_path):
    with pytest.raises(ReleaseError, match="is not a release"):
        load_release(tmp_path)


def test_the_registry_names_a_champion_that_is_there(made, tmp_path):
    registry = ReleaseRegistry(tmp_path)
    assert registry.champion() is None
    with pytest.raises(ReleaseError, match="no release 'abc'"):
        registry.set_champion("abc")
    folder = tiny_release(registry.releases)
    registry.set_champion(folder.name)
    assert registry.champion() == folder
    shutil.rmtree(folder)
    with pytest.raises(ReleaseError, match="which is not in"):
        registry.champion()
