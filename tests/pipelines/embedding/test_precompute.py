"""`esci precompute`, and who finds the vectors: the answers stay, the work goes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import ConfigError, MissingDataError, ReleaseError
from models.files import file_sha256, read_json, write_json
from models.language.served_towers import ServedTowers
from models.language.serving.engines import THREADS_VARIABLE, asked_threads
from models.language.serving.form import Form
from models.members.bi_encoder import BiEncoderMember
from models.release import write_release
from models.vectors.packing import Packing
from models.vectors.shelf import VECTORS
from models.vectors.source import product_keys
from models.vectors.store import ABOUT_FILE, ProductVectors
from pipelines.commands.precompute import precompute
from pipelines.dataset.layout import PRODUCTS_FILE
from pipelines.dataset.read import read_catalogue
from pipelines.trained import find_trained, open_embedder
from service import Settings, running
from tests.tiny import tiny_pairs, tiny_release

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
    (found,) = json.loads(capsys.readouterr().out)["vectors"]
    return found


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

    def test_it_takes_as_many_threads_as_it_is_told(self, made, tmp_path, monkeypatch):
        asked, encode = [], ServedTowers.encoded_products

        def noted(self, products):
            asked.append((asked_threads(), os.environ.get("OMP_NUM_THREADS")))
            return encode(self, products)

        monkeypatch.setattr(ServedTowers, "encoded_products", noted)
        monkeypatch.delenv(THREADS_VARIABLE, raising=False)
        precompute(made.run, made.data, tmp_path, threads=3)
        assert set(asked) == {(3, "3")}

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
from models.vectors import filling
from models.language.served_towers import ServedTowers
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


class TestMending:
    @pytest.mark.parametrize("ending", ["json", "rows.npy"])
    def test_a_damaged_store_is_set_aside_and_filled_again(
        self, made, shelf, tmp_path, capsys, caplog, ending
    ):
        mine = tmp_path / "vectors"
        shutil.copytree(shelf, mine)
        damage(mine, ending)
        precompute(made.run, made.data, mine, threads=1, json=True)
        found = said(capsys)
        assert (found["known"], found["computed"], found["stored"]) == (0, PRODUCTS, PRODUCTS)
        assert "set aside" in caplog.text
        (place,), (before,) = mine.iterdir(), shelf.iterdir()
        assert {path.name for path in place.iterdir()} == {path.name for path in before.iterdir()}
        keys = product_keys(read_catalogue(made.data))
        np.testing.assert_array_equal(
            store_of(mine).get_many(keys).packed, store_of(shelf).get_many(keys).packed
        )


def damage(shelf: Path, ending: str) -> None:
    """Flip a bit of the one file of the one store there that ends so."""
    (path,) = shelf.glob(f"*/*.{ending}")
    content = bytearray(path.read_bytes())
    content[-1 if ending.endswith("npy") else 0] ^= 1
    path.write_bytes(content)


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
        with pytest.raises(
            ConfigError, match=r"holds lexical \(lexical\); expected a member that knows products"
        ):
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

    @pytest.mark.parametrize("about", [{}, [], {"name": "bi"}, {"name": 1, "kind": "bi_encoder"}])
    def test_a_member_that_says_nothing_of_itself_is_refused(self, tmp_path, about):
        write_json(tmp_path / "member.json", about)
        with pytest.raises(ReleaseError, match="does not say the name and the kind"):
            find_trained(tmp_path)

    def test_a_catalogue_that_is_not_there_leaves_nothing_behind(self, made, tmp_path):
        with pytest.raises(MissingDataError):
            precompute(made.run, tmp_path / "absent", tmp_path / "out", threads=1)
        assert not (tmp_path / "out").exists()


def warned(caplog) -> list[str]:
    """The warnings of the service when it starts."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "service.serving" and record.levelname == "WARNING"
    ]


def with_fast_int8(made, folder: Path) -> Path:
    """A release of the member with a second variant, a copy of the first that one text prefers."""
    member = folder / "member"
    shutil.copytree(made.member, member)
    (about,) = (member / "form").rglob("form.json")
    form = read_json(about)
    exact = form["variants"]["fp32"]
    shutil.copyfile(about.parent / exact["file"], about.parent / "int8.onnx")
    form["variants"]["int8"] = {**exact, "file": "int8.onnx", "milliseconds": {"1": 1, "40": 2}}
    exact["milliseconds"] = {"1": 2, "40": 1}
    write_json(about, form)
    sealed = read_json(member / "member.json")
    for path in (about, about.parent / "int8.onnx"):
        sealed["files"][path.relative_to(member).as_posix()] = file_sha256(path)
    write_json(member / "member.json", sealed)
    return write_release(
        folder / "releases",
        [("bi_encoder", BiEncoderMember.load(member))],
        tiny_pairs().without_labels(),
        metrics={},
        configuration={},
        versions={},
        data_fingerprint="none",
    )


class TestServing:
    """A service asked for judged pairs of the demo catalogue."""

    @contextmanager
    def served(self, made, **settings):
        """The address of a service, of the registry unless `settings` say otherwise."""
        given = {"release": made.registry, "port": 0, "cache": "memory://", **settings}
        with running(Settings(**given)) as address:
            yield address

    def ask(self, made, address, capture=None) -> list:
        products = read_catalogue(made.data)
        rows = [row for row in range(PRODUCTS) if products.locale(row) == "us"][:40]
        body = {
            "query": "lamp for the garden",
            "locale": "us",
            "products": [{"product_id": products.ids[row], **products.texts(row)} for row in rows],
        }
        if capture is not None:
            capture.clear()
        kind = {"content-type": "application/json"}
        request = Request(f"{address}/v1/classify", json.dumps(body).encode(), kind)
        with urlopen(request, timeout=30) as response:
            return [one["probabilities"] for one in json.load(response)["results"]]

    def answers(self, made, capture=None, **settings) -> list:
        with self.served(made, **settings) as address:
            return self.ask(made, address, capture)

    def told(self, address) -> tuple[dict, dict[str, int]]:
        """What /info says of the vectors of the one member, and the counts of /metrics."""
        with urlopen(f"{address}/info", timeout=30) as response:
            (info,) = json.load(response)["product_vectors"]
        with urlopen(f"{address}/metrics", timeout=30) as response:
            lines = [line.split() for line in response.read().decode().splitlines()]
        return info, {line[0]: int(line[1]) for line in lines if line[0].startswith("esci_product")}

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

    def test_whether_they_are_in_use_can_be_seen(self, made, own, tmp_path):
        few = with_titles(made.data, tmp_path / "few", {}, rows=60)
        shutil.rmtree(own / VECTORS)
        for state, vectors in (("none", None), ("used", 60)):
            if vectors:
                precompute(own, few, threads=1)
            with self.served(made, release=own) as address:
                info, _ = self.told(address)
                assert info == {
                    "member": "bi",
                    "store": state,
                    "vectors": vectors,
                    "products_stored": 0,
                    "products_encoded": 0,
                }
                self.ask(made, address)
                info, counts = self.told(address)
            stored, encoded = info["products_stored"], info["products_encoded"]
            assert stored + encoded == 40
            assert (stored > 0) == (state == "used")
            assert counts == {
                "esci_products_stored_total": stored,
                "esci_products_encoded_total": encoded,
                "esci_product_stores_passed_over": 0,
            }

    def test_the_log_says_so_when_it_starts(self, own):
        # It is no warning, so only a log that was set up before shows it.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ESCI_")}
        command = [sys.executable, "-m", "service", "--release", str(own), "--port", "0"]
        command += ["--cache", "memory://"]
        with subprocess.Popen(
            command, cwd=ROOT, env=clean, stderr=subprocess.PIPE, text=True
        ) as service:
            lines: list[dict] = []
            while not lines or lines[-1]["event"] != "serving":
                lines.append(json.loads(service.stderr.readline()))
            service.terminate()
        (line,) = [line for line in lines if line["event"] == "product vectors"]
        assert (line["member"], line["products"]) == ("bi", PRODUCTS)

    def test_a_folder_of_another_model_s_alone_is_told(self, made, own, caplog):
        (place,) = (own / VECTORS).iterdir()
        place.rename(place.with_name("bi-of-old"))
        with self.served(made, release=own) as address:
            info, _ = self.told(address)
        assert info["store"] == "none"
        (said,) = warned(caplog)
        assert f"({place.name}), but bi-of-old: compute them" in said

    def test_a_registry_that_never_had_any_needs_no_warning(self, made, caplog):
        with self.served(made):
            assert not warned(caplog)

    def test_another_tower_s_in_the_place_of_its_own_are_passed_over(
        self, made, own, encoded, caplog
    ):
        (place,) = (own / VECTORS).iterdir()
        packing = ProductVectors.open(place).packing
        shutil.rmtree(place)
        ProductVectors.create(place, "another tower", packing)
        self.answers(made, encoded, release=own)
        assert encoded == [40]
        (said,) = warned(caplog)
        assert "compute them again with this member" in said

    @pytest.mark.parametrize("ending", ["json", "rows.npy"])
    def test_so_are_those_that_are_damaged_until_they_are_computed_again(
        self, made, own, encoded, caplog, ending
    ):
        damage(own / VECTORS, ending)
        with self.served(made, release=own) as address:
            self.ask(made, address, encoded)
            info, counts = self.told(address)
        assert encoded == [40]
        assert info["store"] == "damaged"
        assert counts["esci_product_stores_passed_over"] == 1
        (said,) = warned(caplog)
        assert "compute the product vectors again" in said
        precompute(own, made.data, threads=1)
        self.answers(made, encoded, release=own)
        assert encoded == [0]

    def test_but_refused_where_they_were_asked_for(self, made, own):
        (place,) = (own / VECTORS).iterdir()
        (place / ABOUT_FILE).write_text("{}")
        with pytest.raises(ReleaseError, match="compute the product vectors again"):
            self.answers(made, vectors=own / VECTORS)

    def test_the_variant_measured_fastest_answers_and_no_clock_answers_the_probes(
        self, made, tmp_path, monkeypatch
    ):
        ran, run = [], Form.run

        def recorded(form, texts, variant=None, **more):
            ran.append((len(texts), variant or form.variant_for(len(texts))))
            return run(form, texts, variant, **more)

        release = with_fast_int8(made, tmp_path)
        monkeypatch.setattr(Form, "run", recorded)
        with self.served(made, release=release) as address:
            assert {variant for _, variant in ran} == {"fp32"}
            ran.clear()
            self.ask(made, address)
        # Stored vectors are of one variant, and so are those that are made for a request.
        assert ran == [(1, "int8"), (40, "fp32")]

    def test_vectors_for_a_release_that_compares_none_are_refused(self, made, shelf, tmp_path):
        with pytest.raises(ReleaseError, match="no member compares any: lexical"):
            self.answers(made, release=tiny_release(tmp_path), vectors=shelf)
