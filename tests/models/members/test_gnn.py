"""What is particular to the graph member; the contract's suite has the rest."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.errors import ConfigError, ReleaseError
from models.files import read_json, write_json
from models.graphs.features.encoded import teachers
from models.graphs.features.hashed import HashedText
from models.members.bi_encoder import BiEncoderMember, BiEncoderOptions
from models.members.gnn import GnnMember, GnnOptions
from models.pairs import Products
from models.sealed import pairs_sha256
from models.surroundings import Surroundings
from models.typed import parse
from models.vectors.source import Found
from models.workbench import Workbench
from tests.models.graphs.shop import fit, fitted, member, pairs, sides, surroundings

ROOT = Path(__file__).parents[3]
BRIEF = {"epochs": 1, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gnn")
    fitted().save(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    options = parse(
        BiEncoderOptions,
        {
            "backbone": "tiny",
            "hidden": 0,
            "text": {"max_tokens": 24, "query_tokens": 12, "fields": [["title", 16]]},
            "training": {"epochs": 1, "learning_rate": 3e-3, "trained_layers": 0},
            "serving": {"variants": ["fp32"], "measure_seconds": 0.0, "exact_flip_rate": 1.0},
        },
    )
    BiEncoderMember("bi", options).fit(*sides(pairs(surroundings()))).save(folder)
    return folder


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"fan_outs": []}, "fan_outs"),
            ({"fan_outs": [4, 0]}, "fan_outs"),
            ({"width": 30, "heads": 4}, "multiple of the 4 heads"),
            ({"dropout": 1.0}, "dropout 1.0"),
            ({"cold_share": -0.1}, "cold_share -0.1"),
            ({"features": 0}, "at least 1"),
            ({"seed": -1}, "0 or more"),
            ({"training": {"trained_layers": 2, "learning_rate": 1e-3}}, "trained_layers"),
            ({"training": {"fgm": 1.0, "learning_rate": 1e-3}}, "fgm"),
            ({"training": {"epochs": 3}}, "learning_rate"),
            ({"classification": {"distil": 3}}, "distil"),
            ({"graph": {"relations": []}}, "relations"),
            ({"graph": {"relations": ["click", "click"]}}, "each once"),
            ({"graph": {"half_life_days": 0.0}}, "half_life_days"),
            ({"graph": {"most_neighbours": 0}}, "most_neighbours"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, options, said):
        with pytest.raises(ConfigError, match=said):
            parse(GnnOptions, options)

    def test_an_encoder_is_a_member_of_the_run_unless_it_is_a_folder(self, tmp_path):
        assert parse(GnnOptions, {"encoder": "bi"}).needs().members == ("bi",)
        write_json(tmp_path / "member.json", {})
        found = parse(GnnOptions, {"encoder": str(tmp_path)}).needs()
        assert set(found.sources) == {"encoder"}
        assert not found.members
        assert not parse(GnnOptions, {}).needs().sources
        with pytest.raises(ConfigError, match="no folder of a trained bi_encoder"):
            parse(GnnOptions, {"encoder": str(tmp_path / "nothing")}).needs()

    def test_an_encoder_that_is_not_there_is_said_to_be(self):
        made, of = member(encoder="bi"), surroundings()
        with pytest.raises(ConfigError, match="folder of a trained bi_encoder"):
            fit(made, of)


class TestFitting:
    def test_a_training_that_was_begun_goes_on_only_with_the_same_graph(self, tmp_path):
        of = surroundings()

        def steps(weights) -> int:
            """How many steps a fit takes with what the last one has left."""
            behaviours = type(of.behaviours)(**{**vars(of.behaviours), "weights": weights})
            changed = Surroundings(of.products, behaviours, of.links, of.lists)
            labelled, told = pairs(of), []
            is_valid = labelled.query_rows < 3
            member().fit(
                labelled.take(np.flatnonzero(~is_valid)),
                labelled.take(np.flatnonzero(is_valid)),
                Workbench(tmp_path, told.append, lambda: changed),
            )
            return len({standing.done for standing in told})

        first = steps(of.behaviours.weights)
        assert steps(of.behaviours.weights) == 1  # it is told that all is done
        assert first >= 1
        checkpoint = (tmp_path / "checkpoint.safetensors").read_bytes()
        steps(of.behaviours.weights + 1)
        assert (tmp_path / "checkpoint.safetensors").read_bytes() != checkpoint

    def test_a_graph_in_another_order_makes_the_same_member(self):
        of = surroundings()
        order = np.random.default_rng(4).permutation(len(of.behaviours))
        behaviours = of.behaviours
        shuffled = type(behaviours)(
            **{
                **vars(behaviours),
                **{
                    name: getattr(behaviours, name)[order]
                    for name in ("query_rows", "product_rows", "relations", "weights", "days")
                },
            }
        )
        again = fit(member(), Surroundings(of.products, shuffled, of.links, of.lists), pairs(of))
        asked = pairs(of).without_labels()
        np.testing.assert_array_equal(again.predict_logits(asked), fitted().predict_logits(asked))


class TestCommon:
    """Members of one run share what is the same for them, and nothing else."""

    @pytest.fixture
    def read(self, monkeypatch) -> list[int]:
        """How many products were read each time."""
        counts, of_products = [], HashedText.of_products

        def counting(source: HashedText, products: Products) -> np.ndarray:
            counts.append(len(products))
            return of_products(source, products)

        monkeypatch.setattr(HashedText, "of_products", counting)
        return counts

    def test_a_fit_reads_each_product_once(self, read):
        fit(member(training=BRIEF), surroundings())
        assert sum(read) == len(surroundings().products)

    def test_of_many_members_one_reads(self, read, tmp_path, monkeypatch):
        expected = fitted("gcn")
        fit(member(training=BRIEF), surroundings(), common=tmp_path)
        del read[:]
        monkeypatch.setattr(HashedText, "fit", None)
        made = fit(member(convolution="gcn"), surroundings(), common=tmp_path)
        assert sum(read) == 0
        asked = pairs(surroundings()).without_labels()
        np.testing.assert_array_equal(made.predict_logits(asked), expected.predict_logits(asked))

    @pytest.mark.parametrize("change", ["features", "seed", "queries"])
    def test_what_decides_otherwise_is_made_otherwise(self, tmp_path, change):
        labelled = pairs(surroundings())
        fit(member(training=BRIEF), surroundings(), common=tmp_path)
        made = member(
            training=BRIEF, **{"features": {"features": 16}, "seed": {"seed": 8}}.get(change, {})
        )
        judged = 6 if change == "queries" else 3
        asked, found = labelled.without_labels(), []
        for common in (tmp_path, None):
            bench = Workbench(surroundings=surroundings, common=common)
            found.append(made.fit(*sides(labelled, judged), bench).predict_logits(asked))
        np.testing.assert_array_equal(*found)


class TestEncoders:
    """Nodes may start from a bi-encoder, which has learned from labels of its own."""

    def fitted_from(self, folder: Path, to: Path, labelled=None, **changes) -> str:
        """What the member says that its encoder has learned from."""
        made = member(encoder=str(folder), training=BRIEF, **changes)
        fit(made, surroundings(), labelled).save(to)
        return read_json(to / "member.json")["made"]["encoder_learned_from"]

    @pytest.mark.slow
    def test_one_of_the_same_pairs_is_taken(self, encoder, tmp_path, caplog):
        assert self.fitted_from(encoder, tmp_path) == "the same pairs"
        assert not caplog.records
        assert GnnMember.load(tmp_path).vectors_identity()

    @pytest.mark.slow
    def test_one_of_other_pairs_only_if_that_is_asked(self, encoder, tmp_path, caplog):
        train, valid = sides(pairs(surroundings()))
        moved = sides(pairs(surroundings()), queries=2)
        for taught, judged in ((moved[0], valid), (train, moved[1])):
            made = member(encoder=str(encoder))
            with pytest.raises(ConfigError, match=r"other pairs than this fit's.*foreign_encoder"):
                made.fit(taught, judged, Workbench(surroundings=surroundings))
        other = pairs(surroundings(), seed=2)
        assert self.fitted_from(encoder, tmp_path, other, foreign_encoder=True) == "other pairs"
        assert "learned from other pairs" in caplog.text

    @pytest.mark.slow
    @pytest.mark.parametrize("made", [{}, {"train": {}, "valid": None}])
    def test_one_that_does_not_tell_is_taken_with_a_warning(self, encoder, tmp_path, caplog, made):
        silent = tmp_path / "encoder"
        shutil.copytree(encoder, silent)
        about = read_json(silent / "member.json")
        kept = {
            name: said for name, said in about["made"].items() if name not in ("train", "valid")
        }
        write_json(silent / "member.json", about | {"made": kept | made})
        assert self.fitted_from(silent, tmp_path / "gnn") == "unknown"
        assert "its folder does not tell" in caplog.text

    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            (("taught", "judged"), "the same pairs"),
            (("judged", "taught"), "other pairs"),
            (("taught", "taught"), "other pairs"),
            (("judged", "judged"), "other pairs"),
            (("taught", None), "unknown"),
            ((None, "judged"), "unknown"),
        ],
    )
    def test_its_folder_tells_of_both_sides(self, tmp_path, made, expected):
        train, valid = sides(pairs(surroundings()))
        digests = {"taught": pairs_sha256(train), "judged": pairs_sha256(valid), None: None}
        said = {"train": {"sha256": digests[made[0]]}, "valid": {"sha256": digests[made[1]]}}
        write_json(tmp_path / "member.json", {"made": said})
        assert teachers(tmp_path, train, valid) == expected
        write_json(tmp_path / "member.json", [])
        assert teachers(tmp_path, train, valid) == "unknown"

    def test_without_one_there_is_nothing_to_say(self, saved):
        assert read_json(saved / "member.json")["made"]["encoder_learned_from"] is None


class TestSaving:
    def test_it_answers_without_torch(self, saved):
        code = (
            "import sys; sys.modules.update(dict.fromkeys(['torch', 'torch_geometric', 'faiss', "
            "'sklearn', 'pyarrow', 'transformers', 'pandas']));"
            "from pathlib import Path; from models.members.gnn import GnnMember;"
            "from tests.models.graphs.shop import pairs, surroundings;"
            f"m = GnnMember.load(Path({str(saved)!r}));"
            "asked = pairs(surroundings()).without_labels();"
            "print(m.predict_logits(asked).sum(), len(m.explain(asked.take(__import__('numpy')"
            ".array([0]))).relations))"
        )
        found = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stderr
        total = float(found.stdout.split()[0])
        asked = pairs(surroundings()).without_labels()
        assert total == pytest.approx(float(fitted().predict_logits(asked).sum()), rel=1e-4)

    @pytest.mark.parametrize(
        "name",
        [
            "network.npz",
            "head.npz",
            "features/hashed.npz",
            "graphs/us/features.npy",
            "graphs/es/channels/0.indices.npy",
        ],
    )
    def test_a_file_that_was_changed_is_refused(self, tmp_path, name):
        fitted().save(tmp_path)
        content = bytearray((tmp_path / name).read_bytes())
        content[-3] ^= 1
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReleaseError, match="SHA-256"):
            GnnMember.load(tmp_path)

    @pytest.mark.parametrize("convolution", ["sage", "rsage"])
    def test_what_it_hears_is_mapped_where_it_was_saved(self, tmp_path, convolution):
        fitted(convolution).save(tmp_path)
        names = read_json(tmp_path / "member.json")["files"]
        member, asked = GnnMember.load(tmp_path), pairs(surroundings()).without_labels()
        channels = member._whole().served.neighbourhoods["us"].channels
        assert len(channels) == (3 if convolution == "rsage" else 1)
        for number, channel in enumerate(channels):
            assert isinstance(channel.attributes.base, np.memmap)
            assert isinstance(channel.adjacency.indices.base, np.memmap)
            assert f"graphs/us/channels/{number}.attributes.npy" in names
        np.testing.assert_array_equal(
            member.predict_logits(asked), fitted(convolution).predict_logits(asked)
        )

    def test_one_that_was_saved_without_is_answered_as_before(self, tmp_path):
        fitted().save(tmp_path)
        about = read_json(tmp_path / "member.json")
        kept = {name: said for name, said in about["files"].items() if "/channels/" not in name}
        assert len(kept) < len(about["files"])
        write_json(tmp_path / "member.json", about | {"files": kept})
        for locale in ("us", "es"):
            shutil.rmtree(tmp_path / "graphs" / locale / "channels")
        asked = pairs(surroundings()).without_labels()
        np.testing.assert_array_equal(
            GnnMember.load(tmp_path).predict_logits(asked), fitted().predict_logits(asked)
        )

    def test_what_it_says_of_itself_is_what_it_heard(self, saved):
        made = read_json(saved / "member.json")["made"]
        graph = made["graphs"]["us"]
        loaded = GnnMember.load(saved)._whole().served.neighbourhoods["us"].featured.graph
        assert graph["products"] == loaded.products
        assert graph["queries"] == len(loaded) - loaded.products
        assert graph["edges"] == {name: len(one) for name, one in loaded.relations.items()}
        assert made["relations"] == ["click", "purchase", "co_buy"]


class TestStates:
    def test_those_of_another_member_are_refused(self):
        class Others:
            identity = "of somebody else"

            def get_many(self, keys) -> Found:
                raise AssertionError(keys)

        with pytest.raises(ReleaseError, match=r"of somebody.*compute them again"):
            fitted().with_vectors(Others())
        assert fitted("gcn").vectors_identity() != fitted().vectors_identity()

    def test_a_relation_that_nobody_is_in_today_is_silent(self):
        of = surroundings()
        links = type(of.links)(**{**vars(of.links), "relation_names": ("co_view",)})
        member = fitted().amid(Surroundings(of.products, of.behaviours, links, of.lists))
        graph = member._whole().served.neighbourhoods["us"].featured.graph
        assert len(graph.relations["co_buy"]) == 0
        assert len(graph.relations["click"]) > 0
        assert np.isfinite(member.predict_logits(pairs(of).without_labels())).all()
