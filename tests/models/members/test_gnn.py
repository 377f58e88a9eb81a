"""What is particular to the graph member; the contract's suite has the rest."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.errors import ConfigError, ReleaseError
from models.files import read_json, write_json
from models.members.gnn import GnnMember, GnnOptions
from models.surroundings import Surroundings
from models.typed import parse
from models.vectors.source import Found
from models.workbench import Workbench
from tests.models.graphs.shop import fit, fitted, member, pairs, surroundings

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gnn")
    fitted().save(folder)
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
        "name", ["network.npz", "head.npz", "features/hashed.npz", "graphs/us/features.npy"]
    )
    def test_a_file_that_was_changed_is_refused(self, tmp_path, name):
        fitted().save(tmp_path)
        content = bytearray((tmp_path / name).read_bytes())
        content[-3] ^= 1
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReleaseError, match="SHA-256"):
            GnnMember.load(tmp_path)

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
