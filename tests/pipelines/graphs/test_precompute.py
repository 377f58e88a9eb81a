"""`esci precompute` of neighbourhoods, and who finds them: the answers stay, the work goes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from models.errors import ConfigError, DataError
from models.members.gnn import GnnMember
from models.states import open_states
from models.vectors.source import product_keys
from pipelines.commands.precompute import precompute
from pipelines.dataset.layout import BEHAVIOURS_FILE, EXAMPLES_FILE, PRODUCTS_FILE
from pipelines.dataset.read import read_catalogue, read_judgements
from pipelines.neighbourhoods import most_seen
from pipelines.surroundings import read_present
from pipelines.training.train import train_run
from service import Settings, running
from tests.pipelines.graphs.conftest import config
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[3]
PRODUCTS = 400


@pytest.fixture(params=["folder", "sqlite", "redis"])
def where(request, tmp_path):
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        yield server.url
        redis.Redis.from_url(server.url).flushall()
    else:
        yield str(tmp_path / ("states" if request.param == "folder" else "states.sqlite"))


def said(capsys) -> dict:
    (found,) = json.loads(capsys.readouterr().out)["states"]
    return found


def store_of(member: GnnMember, where: str):
    return open_states(where, member.name, member.vectors_identity(), member.state_packing())


def states_in(made, where: str, data: Path | None = None) -> np.ndarray:
    """The stored states of all products, which must be there."""
    member = GnnMember.load(made.member)
    found = store_of(member, where).get_many(product_keys(read_catalogue(data or made.data)))
    assert found.known.all()
    return found.packed


def with_more_clicks(data: Path, to: Path) -> Path:
    """The dataset with one query that has clicked on one product very often."""
    shutil.copytree(data, to)
    table = pq.read_table(data / BEHAVIOURS_FILE)
    row = table.slice(0, 1).to_pylist()[0] | {"relation": "click", "weight": 500.0}
    more = pa.Table.from_pylist([row], table.schema)
    pq.write_table(pa.concat_tables([table, more]), to / BEHAVIOURS_FILE)
    return to


class TestComputing:
    def test_all_are_stored_and_the_second_time_nothing_is_computed(self, made, where, capsys):
        precompute(made.run, made.data, states=where, threads=1, json=True)
        found = said(capsys)
        assert (found["products"], found["computed"], found["taken_over"]) == (
            PRODUCTS, PRODUCTS, 0,
        )  # fmt: skip
        before = states_in(made, where)
        member = GnnMember.load(made.member).amid(read_present(made.data))
        products = read_catalogue(made.data)
        np.testing.assert_array_equal(
            before, member.catalogue_states(products, np.arange(PRODUCTS))
        )
        precompute(made.member, made.data, states=where, threads=1, json=True)
        again = said(capsys)
        assert (again["computed"], again["snapshot"]) == (0, found["snapshot"])
        np.testing.assert_array_equal(states_in(made, where), before)

    def test_where_little_changed_little_is_computed(self, made, where, tmp_path, capsys):
        precompute(made.run, made.data, states=where, threads=1, json=True)
        first = said(capsys)
        changed = with_more_clicks(made.data, tmp_path / "changed")
        precompute(made.run, changed, states=where, threads=1, json=True)
        found = said(capsys)
        assert 0 < found["computed"] < PRODUCTS // 2
        assert found["computed"] + found["taken_over"] == PRODUCTS
        assert found["snapshot"] != first["snapshot"]
        # As if all had been computed.
        precompute(made.run, changed, states=str(tmp_path / "afresh"), threads=1)
        expected = states_in(made, str(tmp_path / "afresh"))
        np.testing.assert_array_equal(states_in(made, where), expected)

    def test_a_product_whose_text_has_changed_has_another_state(self, made, tmp_path, capsys):
        where, changed = str(tmp_path / "states"), tmp_path / "changed"
        precompute(made.run, made.data, states=where, threads=1, json=True)
        said(capsys)
        shutil.copytree(made.data, changed)
        table = pq.read_table(made.data / PRODUCTS_FILE)
        titles = table["product_title"].to_pylist()
        titles[3] = "a ladder of eleven steps"
        at = table.schema.get_field_index("product_title")
        column = pa.array(titles, table.schema.field(at).type)
        pq.write_table(table.set_column(at, table.schema.field(at), column),
                       changed / PRODUCTS_FILE)  # fmt: skip
        precompute(made.run, changed, states=where, threads=1, json=True)
        assert 0 < said(capsys)["computed"] < PRODUCTS // 2
        member = GnnMember.load(made.member)
        old, new = (
            store_of(member, where).get_many(product_keys(read_catalogue(data))).known
            for data in (made.data, changed)
        )
        assert not old[3]  # what was stored for the text of before is gone
        assert new.all()

    def test_what_the_store_has_lost_is_computed_again(self, made, redis_server, capsys):
        precompute(made.run, made.data, states=redis_server.url, threads=1, json=True)
        said(capsys)
        client = redis.Redis.from_url(redis_server.url)
        lost = next(key for key in client.keys("esci:state:*:*:*.?:*"))
        count = client.hlen(lost)
        client.delete(lost)
        precompute(made.run, made.data, states=redis_server.url, threads=1, json=True)
        assert said(capsys)["computed"] == count > 0
        states_in(made, redis_server.url)
        client.flushall()

    def test_those_of_earlier_trainings_are_forgotten_on_demand(
        self, made, where, tmp_path, capsys
    ):
        other = tmp_path / "other"
        train_run(made.data, other, config(seed=5), threads=1)
        precompute(other, made.data, states=where, threads=1)
        precompute(made.run, made.data, states=where, threads=1)
        capsys.readouterr()
        precompute(made.run, made.data, states=where, threads=1, prune=True, json=True)
        assert said(capsys)["forgotten"] == 1
        states_in(made, where)
        before = GnnMember.load(other / "members" / "gnn")
        assert store_of(before, where).current() is None

    def test_the_top_are_those_of_most_behaviours(self, made, tmp_path, capsys):
        where = str(tmp_path / "states")
        precompute(made.run, made.data, states=where, threads=1, top=25, json=True)
        assert said(capsys)["products"] == 25
        weights: dict[tuple[str, str], float] = {}
        for row in pq.read_table(made.data / BEHAVIOURS_FILE).to_pylist():
            key = (row["product_id"], row["product_locale"])
            weights[key] = weights.get(key, 0) + row["weight"]
        products = read_catalogue(made.data)
        seen = [weights.get((products.ids[i], products.locale(i)), 0) for i in range(len(products))]
        rows = most_seen(read_present(made.data), 25)
        assert min(seen[i] for i in rows) >= sorted(seen)[-25]
        known = store_of(GnnMember.load(made.member), where).get_many(product_keys(products)).known
        np.testing.assert_array_equal(np.flatnonzero(known), rows)

    @pytest.mark.slow
    def test_after_a_kill_the_same_command_goes_on_to_the_same_states(
        self, made, where, tmp_path, capsys
    ):
        arguments = [str(made.run), str(made.data), where]
        with subprocess.Popen(
            [sys.executable, "-c", _HANGS, *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        ) as process:  # fmt: skip
            assert process.stdout.readline() == "three blocks\n"
            os.kill(process.pid, signal.SIGKILL)
        assert store_of(GnnMember.load(made.member), where).current() is None
        precompute(made.run, made.data, states=where, threads=1, json=True)
        found = said(capsys)
        assert (found["known"], found["computed"]) == (150, PRODUCTS - 150)
        precompute(made.run, made.data, states=str(tmp_path / "afresh"), threads=1)
        expected = states_in(made, str(tmp_path / "afresh"))
        np.testing.assert_array_equal(states_in(made, where), expected)


# Stops for good in the fourth block, with the first three stored.
_HANGS = """
import sys, time
from pathlib import Path
from models.graphs.serving.served import ServedGraphs
from pipelines import neighbourhoods
from pipelines.commands.precompute import precompute
neighbourhoods._BLOCK = 50
computed, calls = ServedGraphs.catalogue_states, []
def hangs(self, products, rows):
    calls.append(len(rows))
    if len(calls) == 4:
        print("three blocks", flush=True)
        time.sleep(600)
    return computed(self, products, rows)
ServedGraphs.catalogue_states = hangs
run, data, where = sys.argv[1:]
precompute(Path(run), Path(data), states=where, threads=1)
"""


class TestRefusals:
    def test_only_a_registry_has_a_place_of_its_own(self, made, tmp_path, capsys):
        with pytest.raises(ConfigError, match="expected --to with a folder"):
            precompute(made.run, made.data, threads=1)
        registry = tmp_path / "registry"
        shutil.copytree(made.registry, registry, symlinks=True)
        precompute(registry, made.data, threads=1, json=True)
        assert said(capsys)["store"] == str(registry / "states")

    def test_all_and_the_top_are_not_the_same(self, made, tmp_path):
        with pytest.raises(ConfigError, match="--all and --top 3"):
            precompute(made.run, made.data, states=str(tmp_path), top=3, every=True)

    def test_an_address_that_leads_nowhere_is_refused_before_any_work(self, made, monkeypatch):
        monkeypatch.setattr("pipelines.neighbourhoods.read_present", None)
        with pytest.raises(ConfigError, match="leads nowhere"):
            precompute(made.run, made.data, states="reds://nowhere", threads=1)
        with pytest.raises(ConfigError, match="--out is for vectors"):
            precompute(made.run, made.data, made.data.parent / "out", states="x", threads=1)

    def test_a_product_that_comes_twice_is_named(self, made, tmp_path):
        data = tmp_path / "data"
        shutil.copytree(made.data, data)
        table = pq.read_table(data / PRODUCTS_FILE)
        pq.write_table(pa.concat_tables([table, table.slice(7, 1)]), data / PRODUCTS_FILE)
        twice = table["product_id"][7].as_py()
        with pytest.raises(DataError, match=rf"row 400 has product '{twice}'.*again.*validate"):
            precompute(made.run, data, states=str(tmp_path / "states"), threads=1)
        assert not (tmp_path / "states").exists()


class TestServing:
    """A service asked for judged pairs, with neighbourhoods and without."""

    @pytest.fixture(autouse=True)
    def filled(self, made, where):
        precompute(made.registry, made.data, states=where, threads=1)

    def body(self, made, products: int = 100) -> bytes:
        judgements, catalogue = read_judgements(made.data), read_catalogue(made.data)
        query = next(
            row for row in range(len(judgements.pairs.queries))
            if judgements.pairs.queries.locale(row) == "us"
        )  # fmt: skip
        rows = [row for row in range(PRODUCTS) if catalogue.locale(row) == "us"][:products]
        asked = {
            "query": judgements.pairs.queries.texts[query],
            "locale": "us",
            "products": [
                {"product_id": catalogue.ids[row], **catalogue.texts(row)} for row in rows
            ],
        }
        return json.dumps(asked).encode()

    def ask(self, address: str, body: bytes) -> np.ndarray:
        request = Request(f"{address}/v1/classify", body, {"content-type": "application/json"})
        with urlopen(request, timeout=30) as response:
            results = json.load(response)["results"]
        return np.array([list(one["probabilities"].values()) for one in results])

    def told(self, address: str) -> dict:
        with urlopen(f"{address}/info", timeout=30) as response:
            (found,) = json.load(response)["neighbourhoods"]
        return found

    def test_what_is_stored_is_looked_up_and_answers_as_what_is_computed(self, made, where):
        body = self.body(made)
        given = {"release": made.registry, "port": 0, "cache": "memory://"}
        with running(Settings(**given)) as address:
            assert self.told(address)["store"] is None
            computed = self.ask(address, body)
        with running(Settings(**given, states=where)) as address:
            stored = self.ask(address, body)
            found = self.told(address)
        assert (found["products_stored"], found["products_computed"]) == (100, 0)
        assert found["healthy"]
        # Training has left the edges of the queries out that were to judge; serving has all.
        assert np.abs(stored - computed).max() < 0.3
        assert np.corrcoef(stored.ravel(), computed.ravel())[0, 1] > 0.9

    def test_a_new_snapshot_is_answered_of_at_once(self, made, where, tmp_path):
        body = self.body(made, PRODUCTS)
        given = {"release": made.registry, "port": 0, "cache": "memory://", "states": where}
        with running(Settings(**given)) as address:
            before = self.ask(address, body)
            changed = with_more_clicks(made.data, tmp_path / "changed")
            precompute(made.registry, changed, states=where, threads=1)
            after = self.ask(address, body)
        with running(Settings(**given)) as address:
            cold = self.ask(address, body)
        assert (after != before).any()
        np.testing.assert_array_equal(after, cold)

    def test_products_that_are_not_stored_are_computed(self, made, where):
        body = json.loads(self.body(made, 10))
        for product in body["products"][::2]:
            product["product_id"] += "-new"
        given = {"release": made.registry, "port": 0, "cache": "memory://", "states": where}
        with running(Settings(**given)) as address:
            answers = self.ask(address, json.dumps(body).encode())
            found = self.told(address)
        assert np.isfinite(answers).all()
        assert (found["products_stored"], found["products_computed"]) == (5, 5)


class TestRedis:
    def test_when_redis_dies_the_answers_stay(self, made, tmp_path):
        server = RedisServer(tmp_path)
        server.start()
        try:
            precompute(made.registry, made.data, states=server.url, threads=1)
            served = TestServing()
            body, other = served.body(made, 30), json.loads(served.body(made, 60))
            other["products"] = other["products"][30:]
            given = {"release": made.registry, "port": 0, "cache": "memory://"}
            with running(Settings(**given, states=server.url)) as address:
                served.ask(address, body)
                server.stop()
                answers = served.ask(address, json.dumps(other).encode())
                found = served.told(address)
            assert np.isfinite(answers).all()
            assert (found["products_stored"], found["products_computed"]) == (30, 30)
            assert found["troubles"] >= 1
        finally:
            server.stop()


def test_examples_are_not_needed(made, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(made.data, data)
    (data / EXAMPLES_FILE).unlink()
    precompute(made.run, data, states=str(tmp_path / "states"), threads=1, json=True)
    assert said(capsys)["computed"] == PRODUCTS
