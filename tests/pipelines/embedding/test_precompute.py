"""`esci precompute`, and who finds the vectors: the answers stay, the work goes."""

import json
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

from models.errors import ConfigError, MissingDataError, ReleaseError
from models.language.vectors.forms import ServedTowers
from models.language.vectors.packing import Packing
from models.language.vectors.shelf import VECTORS
from models.language.vectors.source import product_keys
from models.language.vectors.store import ABOUT_FILE, ProductVectors
from pipelines.commands.precompute import precompute
from pipelines.dataset.layout import PRODUCTS_FILE
from pipelines.dataset.read import read_catalogue
from pipelines.trained import find_trained, open_embedder
from service import Settings, running
from tests.tiny import tiny_release

ROOT = Path(__file__).parents[3]
PRODUCTS = 200


@pytest.fixture(scope="module")
def shelf(made, tmp_path_factory) -> Path:
    """The vectors of all products."""
    folder = tmp_path_factory.mktemp("shelf")
    precompute(made.run, made.data, folder, threads=1)
    return folder


def store_of(folder: Path) -> ProductVectors:
    (place,) = folder.iterdir()
    return ProductVectors.open(place)


def said(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def with_titles(data: Path, to: Path, titles: dict[int, str], rows: int = PRODUCTS) -> Path:
    """The first `rows` products of `data` with some titles changed."""
    table = pq.read_table(data / PRODUCTS_FILE).slice(0, rows)
    column = table["product_title"].to_pylist()
    for row, title in titles.items():
        column[row] = title
    at = table.schema.get_field_index("product_title")
    to.mkdir()
    pq.write_table(
        table.set_column(at, table.schema.field(at), pa.array(column, table.schema.field(at).type)),
        to / PRODUCTS_FILE,
    )
    return to


class TestComputing:
    @pytest.mark.parametrize("of", ["run", "release", "member"])
    def test_whatever_holds_the_member_gives_the_same_vectors(self, made, shelf, tmp_path, of):
        precompute(getattr(made, of), made.data, tmp_path, threads=1)
        keys = product_keys(read_catalogue(made.data))
        expected = store_of(shelf).get_many(keys)
        assert expected.known.all()
        np.testing.assert_array_equal(store_of(tmp_path).get_many(keys).packed, expected.packed)

    def test_it_says_how_much_and_how_fast(self, made, shelf, tmp_path, capsys):
        precompute(made.member, made.data, tmp_path, threads=1, json=True)
        found = said(capsys)
        (place,) = tmp_path.iterdir()
        assert found["store"] == str(place)
        assert (found["known"], found["computed"], found["stored"]) == (0, PRODUCTS, PRODUCTS)
        assert found["products_per_second"] == pytest.approx(PRODUCTS / found["seconds"])
        assert found["folder_bytes"] == sum(path.stat().st_size for path in place.iterdir())
        # A key of sixteen bytes besides the vector, and little else.
        vector = Packing("fp16", found["width"]).stride
        assert vector + 16 < found["bytes_per_product"] < vector + 16 + 10
        precompute(made.member, made.data, shelf, threads=1)
        shown = " ".join(capsys.readouterr().out.split())
        assert f"computed 0 of {PRODUCTS} products" in shown
        assert f"{PRODUCTS} were known" in shown
        assert "in fp16" in shown

    def test_only_new_and_changed_products_are_computed(self, made, shelf, tmp_path, capsys):
        mine = tmp_path / "vectors"
        shutil.copytree(shelf, mine)
        changed = with_titles(made.data, tmp_path / "changed", {3: "a ladder of eleven feet"})
        precompute(made.run, changed, mine, threads=1, json=True)
        found = said(capsys)
        assert (found["known"], found["computed"]) == (PRODUCTS - 1, 1)
        assert (found["forgotten"], found["stored"]) == (0, PRODUCTS + 1)

    def test_what_the_dataset_does_not_hold_is_forgotten_on_demand(
        self, made, shelf, tmp_path, capsys
    ):
        mine = tmp_path / "vectors"
        shutil.copytree(shelf, mine)
        fewer = with_titles(made.data, tmp_path / "fewer", {0: "a ladder"}, rows=50)
        precompute(made.run, fewer, mine, threads=1, prune=True, json=True)
        found = said(capsys)
        assert (found["computed"], found["forgotten"], found["stored"]) == (1, PRODUCTS - 49, 50)
        keys = product_keys(read_catalogue(fewer))
        assert store_of(mine).get_many(keys).known.all()

    def test_after_a_kill_the_same_command_goes_on_to_the_same_vectors(
        self, made, shelf, tmp_path, capsys
    ):
        with subprocess.Popen(
            [sys.executable, "-c", _HANGS, str(made.run), str(made.data), str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as running_it:
            assert running_it.stdout.readline() == "three blocks\n"
            running_it.kill()
        assert running_it.returncode == -signal.SIGKILL
        assert len(store_of(tmp_path)) == 60
        precompute(made.run, made.data, tmp_path, threads=1, json=True)
        found = said(capsys)
        assert (found["known"], found["computed"]) == (60, PRODUCTS - 60)
        keys = product_keys(read_catalogue(made.data))
        np.testing.assert_array_equal(
            store_of(tmp_path).get_many(keys).packed, store_of(shelf).get_many(keys).packed
        )
        assert len(list(Path(found["store"]).iterdir())) == 3

    def test_a_member_trained_anew_has_a_place_of_its_own(self, made, shelf, tmp_path, capsys):
        mine = tmp_path / "vectors"
        shutil.copytree(shelf, mine)
        (place,) = mine.iterdir()
        place.rename(mine / "bi-of-old")
        precompute(made.run, made.data, mine, threads=1, json=True)
        assert said(capsys)["computed"] == PRODUCTS
        assert {path.name for path in mine.iterdir()} == {"bi-of-old", place.name}


# Stops for good in the fourth block, with the first three on the disk.
_HANGS = """
import sys, time
from pathlib import Path
from models.language.vectors import filling
from models.language.vectors.forms import ServedTowers
from pipelines.commands.precompute import precompute
filling.BLOCK_PRODUCTS = filling._WRITTEN_PRODUCTS = 20
encoded, calls = ServedTowers.encoded_products, []
def hangs(self, products):
    calls.append(len(products))
    if len(calls) == 4:
        print("three blocks", flush=True)
        time.sleep(600)
    return encoded(self, products)
ServedTowers.encoded_products = hangs
run, data, out = map(Path, sys.argv[1:])
precompute(run, data, out, threads=1)
"""


class TestRefusals:
    def test_a_folder_that_is_accounted_for_is_not_written_to(self, made):
        before = sorted(made.data.parent.rglob("*"))
        for out in (made.data / "vectors", made.run / "vectors", made.run):
            with pytest.raises(ConfigError, match="accounted for; expected a folder beside it"):
                precompute(made.run, made.data, out, threads=1)
        with pytest.raises(ConfigError, match="is a file"):
            precompute(made.run, made.data, made.run / "run.json", threads=1)
        assert sorted(made.data.parent.rglob("*")) == before

    def test_only_a_registry_has_a_place_for_vectors(self, made):
        for folder in (made.run, made.member, made.release):
            with pytest.raises(ConfigError, match="expected --out FOLDER"):
                precompute(folder, made.data, threads=1)

    def test_what_holds_no_member_is_said_to(self, made, tmp_path):
        for folder in (tmp_path, tmp_path / "absent", made.data):
            with pytest.raises(MissingDataError, match="the folder of a run, a release"):
                precompute(folder, made.data, tmp_path / "out", threads=1)

    def test_a_member_without_vectors_is_named(self, made, tmp_path):
        release = tiny_release(tmp_path / "releases")
        with pytest.raises(ConfigError, match=r"holds lexical \(lexical\); expected one that"):
            precompute(release, made.data, tmp_path / "out", threads=1)
        with pytest.raises(ConfigError, match=r"holds bi \(bi_encoder\); expected 'cross' among"):
            precompute(made.run, made.data, tmp_path / "out", member="cross", threads=1)

    def test_of_several_members_one_is_named(self, made, tmp_path):
        both = tmp_path / "both"
        shutil.copytree(made.run, both)
        shutil.copytree(both / "members" / "bi", both / "members" / "other")
        record = json.loads((both / "run.json").read_text())
        record["members"].append({**record["members"][0], "name": "other"})
        (both / "run.json").write_text(json.dumps(record))
        trained = find_trained(both)
        with pytest.raises(ConfigError, match="name one of bi, other with --member"):
            open_embedder(trained)
        assert open_embedder(trained, "bi").name == "bi"

    def test_a_catalogue_that_is_not_there_leaves_nothing_behind(self, made, tmp_path):
        with pytest.raises(MissingDataError):
            precompute(made.run, tmp_path / "absent", tmp_path / "out", threads=1)
        assert not (tmp_path / "out").exists()


class TestServing:
    """A service asked for judged pairs of the demo catalogue."""

    def answers(self, made, capture=None, **settings) -> list:
        products = read_catalogue(made.data)
        rows = [row for row in range(PRODUCTS) if products.locale(row) == "us"][:40]
        body = {
            "query": "lamp for the garden",
            "locale": "us",
            "products": [{"product_id": products.ids[row], **products.texts(row)} for row in rows],
        }
        given = {"release": made.registry, "port": 0, "cache": "memory://", **settings}
        with running(Settings(**given)) as address:
            if capture is not None:
                capture.clear()
            kind = {"content-type": "application/json"}
            request = Request(f"{address}/v1/classify", json.dumps(body).encode(), kind)
            with urlopen(request, timeout=30) as response:
                return [one["probabilities"] for one in json.load(response)["results"]]

    @pytest.fixture
    def encoded(self, monkeypatch):
        """How many products were encoded, call by call."""
        counts, encode = [], ServedTowers.encoded_products

        def counted(self, products):
            counts.append(len(products))
            return encode(self, products)

        monkeypatch.setattr(ServedTowers, "encoded_products", counted)
        return counts

    @pytest.fixture
    def own(self, made, shelf, tmp_path):
        """A registry with vectors of its own."""
        registry = tmp_path / "registry"
        shutil.copytree(made.registry, registry)
        shutil.copytree(shelf, registry / VECTORS)
        return registry

    def test_it_answers_the_same_and_encodes_nothing_that_is_stored(self, made, shelf, encoded):
        without = self.answers(made, encoded)
        assert encoded == [40]
        assert self.answers(made, encoded, vectors=shelf) == without
        assert encoded == [0]
        assert self.answers(made, encoded, release=made.release, vectors=shelf) == without
        assert encoded == [0]

    def test_the_registry_s_own_are_found(self, made, own, encoded):
        self.answers(made, encoded, release=own)
        assert encoded == [0]

    def test_those_of_another_model_are_passed_over_in_the_registry(self, made, own, encoded):
        (place,) = (own / VECTORS).iterdir()
        place.rename(place.with_name("bi-of-old"))
        self.answers(made, encoded, release=own)
        assert encoded == [40]

    def test_those_of_another_model_are_refused_where_they_were_asked_for(
        self, made, shelf, tmp_path
    ):
        mine = tmp_path / "vectors"
        shutil.copytree(shelf, mine)
        (place,) = mine.iterdir()
        place.rename(mine / "bi-of-old")
        with pytest.raises(ReleaseError, match=rf"{place.name}\), but bi-of-old: compute them"):
            self.answers(made, vectors=mine)
        with pytest.raises(ReleaseError, match="none at all"):
            self.answers(made, vectors=tmp_path / "absent")

    def test_so_are_they_in_its_own_place(self, made, own):
        (place,) = (own / VECTORS).iterdir()
        packing = ProductVectors.open(place).packing
        shutil.rmtree(place)
        ProductVectors.create(place, "another tower", packing)
        with pytest.raises(ReleaseError, match="compute them again with this member"):
            self.answers(made, release=own)

    def test_and_those_that_are_damaged(self, made, own):
        (place,) = (own / VECTORS).iterdir()
        (place / ABOUT_FILE).write_text("{}")
        with pytest.raises(ReleaseError, match="compute the product vectors again"):
            self.answers(made, release=own)

    def test_vectors_for_a_release_that_compares_none_are_refused(self, made, shelf, tmp_path):
        with pytest.raises(ReleaseError, match="no member compares any: lexical"):
            self.answers(made, release=tiny_release(tmp_path), vectors=shelf)
