"""Graph members in runs: what the graph is made of, and what those that judge may not tell it."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import ConfigError
from models.files import read_json
from models.graphs.features.hashed import HashedText
from models.members.gnn import GnnMember
from models.typed import parse
from pipelines.config import TrainConfig, resolved
from pipelines.dataset.layout import BEHAVIOURS_FILE, EXAMPLES_FILE, LINKS_FILE
from pipelines.training.train import train_run
from tests.pipelines.graphs.conftest import TINY, config


def logits_of(run: Path, side: str = "test") -> np.ndarray:
    return pq.read_table(run / side / "gnn.parquet").to_pandas().set_index("example_id").to_numpy()


def with_canary(data: Path, to: Path) -> Path:
    """The dataset with a relation that says which pairs of the test split are Exact."""
    shutil.copytree(data, to)
    rows = pq.read_table(data / EXAMPLES_FILE).to_pandas()
    exact = rows[(rows.split == "test") & (rows.esci_label == "E")]
    table = pq.read_table(data / BEHAVIOURS_FILE)
    told = pa.table(
        {
            "query": exact["query"].tolist(),
            "product_id": exact.product_id.tolist(),
            "product_locale": exact.product_locale.tolist(),
            "relation": ["click"] * len(exact),
            "weight": [50.0] * len(exact),
            "date": [None] * len(exact),
        }
    ).cast(table.schema)
    pq.write_table(pa.concat_tables([table, told]), to / BEHAVIOURS_FILE)
    return to


class TestLeaks:
    def test_edges_that_tell_the_labels_of_the_test_change_no_answer(self, made, tmp_path):
        canary = with_canary(made.data, tmp_path / "canary")
        train_run(canary, tmp_path / "run", config(), threads=1)
        for side in ("test", "validation"):
            np.testing.assert_array_equal(logits_of(tmp_path / "run", side),
                                          logits_of(made.run, side))  # fmt: skip

    def test_transductively_they_would(self, made, tmp_path):
        # Else the test above could not fail.
        canary, told = with_canary(made.data, tmp_path / "canary"), {}
        for name, data in (("with", canary), ("without", made.data)):
            asked = config(graph={"transductive": True})
            train_run(data, tmp_path / name, asked, threads=1)
            told[name] = logits_of(tmp_path / name)
        assert not np.allclose(told["with"], told["without"], atol=1e-2)

    def test_lists_are_heard_without_their_labels(self, made, tmp_path):
        relabelled = tmp_path / "data"
        shutil.copytree(made.data, relabelled)
        table = pq.read_table(made.data / EXAMPLES_FILE)
        labels = np.array(table["esci_label"].to_pylist())
        is_test = np.array(table["split"].to_pylist()) == "test"
        labels[is_test] = np.roll(labels[is_test], 7)
        at = table.schema.get_field_index("esci_label")
        column = pa.array(labels.tolist(), table.schema.field(at).type)
        pq.write_table(table.set_column(at, table.schema.field(at), column),
                       relabelled / EXAMPLES_FILE)  # fmt: skip
        told = {}
        for name, data in (("as it is", made.data), ("relabelled", relabelled)):
            asked = config(graph={"relations": ["listed"], "transductive": True})
            train_run(data, tmp_path / name, asked, threads=1)
            told[name] = logits_of(tmp_path / name)
        np.testing.assert_array_equal(told["as it is"], told["relabelled"])


class TestRelations:
    def test_a_member_says_what_it_heard(self, made):
        about = read_json(made.member / "member.json")["made"]
        assert about["relations"] == ["impression", "click", "add", "purchase", "consume"]
        assert set(about["graphs"]) == {"us", "es", "jp"}
        assert about["graphs"]["us"]["edges"]["click"] > 0
        assert about["hidden_queries"] > 0

    def test_without_behaviours_relations_are_made_of_the_data(self, made, tmp_path):
        data = tmp_path / "data"
        shutil.copytree(made.data, data)
        (data / BEHAVIOURS_FILE).unlink()
        (data / LINKS_FILE).unlink()
        train_run(data, tmp_path / "run", config(), threads=1)
        about = read_json(tmp_path / "run" / "members" / "gnn" / "member.json")["made"]
        assert about["relations"] == ["listed", "same_brand", "similar"]
        assert min(about["graphs"]["us"]["edges"].values()) > 0

    def test_one_that_is_not_there_is_refused_with_those_that_are(self, made, tmp_path):
        with pytest.raises(ConfigError, match=r"'wish'.*impression, click.*co_buy, co_view"):
            train_run(made.data, tmp_path, config(graph={"relations": ["wish"]}), threads=1)

    def test_a_line_of_configuration_spreads_convolutions_over_relations(self):
        entry = {
            "name": "gnn",
            "kind": "gnn",
            "options": TINY,
            "grid": {
                "convolution": ["sage", "gcn", "gatv2"],
                "graph.relations": [["click"], ["click", "purchase"]],
            },
        }
        found = resolved(parse(TrainConfig, {"members": [entry]})).members
        assert [one.name for one in found] == [
            "gnn_sage_click", "gnn_sage_click-purchase", "gnn_gcn_click",
            "gnn_gcn_click-purchase", "gnn_gatv2_click", "gnn_gatv2_click-purchase",
        ]  # fmt: skip
        assert found[3].options["graph"]["relations"] == ["click", "purchase"]
        assert found[3].options["convolution"] == "gcn"
        assert found[3].options["width"] == 24

    def test_its_members_read_the_catalogue_once_even_after_a_kill(
        self, made, tmp_path, monkeypatch
    ):
        entry = {"name": "gnn", "kind": "gnn", "options": TINY,
                 "grid": {"convolution": ["gcn", "sage"]}}  # fmt: skip
        asked, run = parse(TrainConfig, {"members": [entry]}), tmp_path / "run"
        fits, fit, hashed, read = [], GnnMember.fit, HashedText.fit, []

        def killed(member, *arguments):
            fits.append(member.name)
            if fits == ["gnn_gcn", "gnn_sage"]:
                raise KeyboardInterrupt
            return fit(member, *arguments)

        def reading(*arguments):
            read.append(arguments)
            return hashed(*arguments)

        monkeypatch.setattr(GnnMember, "fit", killed)
        monkeypatch.setattr(HashedText, "fit", reading)
        with pytest.raises(KeyboardInterrupt):
            train_run(made.data, run, asked, threads=1)
        train_run(made.data, run, asked, threads=1)
        assert fits == ["gnn_gcn", "gnn_sage", "gnn_sage"]
        assert len(read) == 1
        of_sage = pq.read_table(run / "test" / "gnn_sage.parquet").to_pandas()
        np.testing.assert_array_equal(
            of_sage.set_index("example_id").to_numpy(), logits_of(made.run)
        )
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_a_grid_without_values_is_refused(self):
        entry = {"name": "gnn", "kind": "gnn", "grid": {"convolution": []}}
        with pytest.raises(ConfigError, match="convolution has no values"):
            resolved(parse(TrainConfig, {"members": [entry]}))


ENCODER = {
    "backbone": "tiny",
    "hidden": 0,
    "text": {"max_tokens": 24, "query_tokens": 12, "fields": [["title", 16]]},
    "training": {"epochs": 1, "batch_size": 64, "learning_rate": 3e-3, "trained_layers": 0},
    "serving": {"variants": ["fp32"], "measure_seconds": 0.0, "exact_flip_rate": 1.0},
}


class TestEncoders:
    def members(self, encoder: str) -> TrainConfig:
        return parse(
            TrainConfig,
            {
                "members": [
                    {"name": "bi", "kind": "bi_encoder", "options": ENCODER},
                    {"name": "gnn", "kind": "gnn", "options": TINY | {"encoder": encoder}},
                ]
            },
        )

    @pytest.mark.slow
    def test_nodes_start_from_the_bi_encoder_that_was_trained_before(self, made, tmp_path):
        run = tmp_path / "run"
        train_run(made.data, run, self.members("bi"), threads=1)
        assert not np.allclose(logits_of(run), logits_of(made.run), atol=1e-2)
        # It takes along what it needs.
        alone = tmp_path / "alone"
        shutil.copytree(run / "members" / "gnn", alone)
        shutil.rmtree(run / "members" / "bi")
        member = GnnMember.load(alone)
        assert member.options.encoder == "bi"
        assert member._whole().served.features.width == 32

    def test_a_name_that_nobody_has_is_refused_before_anything_is_trained(self, made, tmp_path):
        with pytest.raises(ConfigError, match=r"'nobody'.*neither the folder.*\(bi\)"):
            train_run(made.data, tmp_path / "run", self.members("nobody"), threads=1)
        assert not list(tmp_path.iterdir())
