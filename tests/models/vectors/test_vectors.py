"""Packed vectors, the store of a catalogue's, and the head that compares them."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DataError, ReleaseError
from models.language.reading.sequences import Sequences
from models.language.served_towers import ServedTowers
from models.language.serving.batches import run_plan
from models.language.serving.engines import ENGINES
from models.language.serving.form import Form
from models.language.serving.gate import Gap
from models.language.serving.manifest import Exported, FormReport, Weights
from models.language.serving.options import VARIANTS
from models.pairs import Products
from models.vectors.head import PairHead
from models.vectors.packing import Packing
from models.vectors.source import KEY_BYTES, VectorSource, product_keys
from models.vectors.store import ABOUT_FILE, ProductVectors
from models.vectors.tally import Counts, Tally

PRECISIONS = ("fp32", "fp16", "int8")
WIDTH = 6
each_precision = pytest.mark.parametrize("precision", PRECISIONS)
# How far a number of a vector may move, as a share of the largest number in it.
LOST = {"fp32": 0.0, "fp16": 2**-11, "int8": 0.5 / 127 + 1e-6}


def vectors(seed: int, count: int, width: int = WIDTH) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, width))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def keys(*numbers: int) -> np.ndarray:
    """Keys of whole numbers; those below 256 share the first half."""
    digits = b"".join(number.to_bytes(KEY_BYTES, "big") for number in numbers)
    return np.frombuffer(digits, np.uint8).reshape(-1, KEY_BYTES)


def filled(folder: Path, numbers, precision="fp16", batches: int = 1) -> ProductVectors:
    """A store where the vector of each key is drawn from its number."""
    packing = Packing(precision, WIDTH)
    store = ProductVectors.create(folder, "tower", packing)
    for part in np.array_split(np.array(numbers, object), batches):
        store.append(keys(*part), packed_of(part, packing))
    return store


def packed_of(numbers, packing: Packing) -> np.ndarray:
    rows = [vectors(int(number) % 1000, 1) for number in numbers]
    return packing.pack(np.vstack([np.empty((0, WIDTH), np.float32), *rows]))


# Some share their first eight bytes, and so must be told apart by the second.
numbers = st.integers(0, 40).map(lambda n: n if n % 2 else (n << 64) + n)


class TestPacking:
    @each_precision
    @given(seed=st.integers(0, 999), count=st.integers(0, 5))
    def test_little_is_lost_and_every_vector_takes_its_stride(self, precision, seed, count):
        packing, given = Packing(precision, WIDTH), vectors(seed, count)
        packed = packing.pack(given)
        assert packed.shape == (count, packing.stride)
        assert packed.dtype == np.uint8
        again = packing.unpack(packed)
        assert again.dtype == np.float32
        largest = np.abs(given).max(axis=1, initial=0, keepdims=True)
        assert (np.abs(again - given) <= LOST[precision] * largest).all()

    @each_precision
    @given(seed=st.integers(0, 999))
    def test_a_vector_is_packed_alike_alone_and_among_others(self, precision, seed):
        packing, given = Packing(precision, WIDTH), vectors(seed, 4)
        alone = np.vstack([packing.pack(given[[row]]) for row in range(4)])
        np.testing.assert_array_equal(packing.pack(given), alone)

    @each_precision
    @pytest.mark.parametrize("size", [0.0, 1e-44, 1e-30])
    def test_zero_and_tiny_vectors_stay_finite(self, precision, size):
        packing = Packing(precision, WIDTH)
        given = np.full((1, WIDTH), size, np.float32)
        again = packing.unpack(packing.pack(given))
        assert (np.abs(again - given) <= np.float32(2 * size + 1e-43)).all()

    @each_precision
    @pytest.mark.parametrize("wrong", [np.nan, np.inf])
    def test_vectors_that_are_not_finite_are_told(self, precision, wrong):
        packing, given = Packing(precision, WIDTH), vectors(3, 3)
        packed = packing.pack(given)
        assert packing.is_finite(packed).tolist() == [True] * 3
        rotten = np.array([wrong], "<f2" if precision == "fp16" else "<f4").view(np.uint8)
        packed[1, : len(rotten)] = rotten
        assert packing.is_finite(packed).tolist() == [True, False, True]

    def test_strides(self):
        assert [Packing(p, 384).stride for p in PRECISIONS] == [1536, 768, 388]


class TestKeys:
    def test_they_tell_products_locales_and_contents_apart(self):
        rows = [
            {"product_id": "P", "locale": "us", "title": "a"},
            {"product_id": "P", "locale": "es", "title": "a"},
            {"product_id": "Q", "locale": "us", "title": "a"},
            {"product_id": "P", "locale": "us", "title": "b"},
            {"product_id": "P", "locale": "us", "title": " a "},
        ]
        found = [key.tobytes() for key in product_keys(Products.of(rows))]
        assert len(set(found)) == 4
        assert found[0] == found[4]  # the same content
        assert product_keys(Products.of([])).shape == (0, KEY_BYTES)


class TestStore:
    @given(
        stored=st.lists(numbers, max_size=30),
        asked=st.lists(numbers, max_size=30),
        precision=st.sampled_from(PRECISIONS),
        batches=st.integers(1, 4),
        merged=st.booleans(),
    )
    @settings(max_examples=60, deadline=None)
    def test_it_is_a_dictionary(self, tmp_path_factory, stored, asked, precision, batches, merged):
        store = filled(tmp_path_factory.mktemp("store"), stored, precision, batches)
        if merged:
            store.merge()
        for opened in (store, ProductVectors.open(store.folder)):
            assert len(opened) == len(set(stored))
            known, packed = opened.get_many(keys(*asked))
            assert known.tolist() == [number in set(stored) for number in asked]
            there = [number for number in asked if number in set(stored)]
            np.testing.assert_array_equal(packed, packed_of(there, opened.packing))

    def test_it_is_a_source(self, tmp_path):
        source: VectorSource = filled(tmp_path, [1, 2, 3])
        assert source.identity == "tower"

    def test_a_key_keeps_what_it_has(self, tmp_path):
        store = filled(tmp_path, [1, 2])
        other = store.packing.pack(vectors(99, 3))
        assert store.append(keys(2, 5, 5), other) == 1
        np.testing.assert_array_equal(store.get_many(keys(2)).packed, packed_of([2], store.packing))
        np.testing.assert_array_equal(store.get_many(keys(5)).packed, other[[1]])

    def test_merging_leaves_one_segment_and_no_litter(self, tmp_path):
        store = filled(tmp_path, range(20), batches=4)
        assert len(list(tmp_path.glob("*.rows.npy"))) == 4
        store.merge()
        assert len(list(tmp_path.glob("*.rows.npy"))) == 1
        assert {path.suffix for path in tmp_path.iterdir()} == {".npy", ".json"}

    @given(
        stored=st.lists(numbers, max_size=30),
        kept=st.lists(numbers, max_size=30),
        batches=st.integers(1, 4),
    )
    @settings(max_examples=40, deadline=None)
    def test_what_is_not_kept_is_forgotten(self, tmp_path_factory, stored, kept, batches):
        store = filled(tmp_path_factory.mktemp("store"), stored, batches=batches)
        left, before = set(stored) & set(kept), sorted(store.folder.iterdir())
        assert store.keep_only(keys(*kept)) == len(set(stored)) - len(left)
        for opened in (store, ProductVectors.open(store.folder)):
            assert len(opened) == len(left)
            known, packed = opened.get_many(keys(*stored))
            assert known.tolist() == [number in left for number in stored]
            there = [number for number in stored if number in left]
            np.testing.assert_array_equal(packed, packed_of(there, opened.packing))
        if left == set(stored):
            assert sorted(store.folder.iterdir()) == before  # nothing was written for nothing
        else:
            assert len(list(store.folder.glob("*.rows.npy"))) == (1 if left else 0)

    def test_a_reader_keeps_what_it_opened_while_others_merge(self, tmp_path):
        store = filled(tmp_path, range(20), batches=4)
        reader = ProductVectors.open(tmp_path)
        store.merge()
        np.testing.assert_array_equal(
            reader.get_many(keys(*range(20))).packed, packed_of(range(20), store.packing)
        )

    def test_vectors_stay_on_disk(self, tmp_path):
        store = filled(tmp_path, range(5))
        assert all(isinstance(segment.rows, np.memmap) for segment in store._segments)

    def test_a_write_that_is_cut_short_leaves_the_store_as_it_was(self, tmp_path, monkeypatch):
        store = filled(tmp_path, [1, 2])

        def killed(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("models.vectors.store.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            store.append(keys(7), packed_of([7], store.packing))
        monkeypatch.undo()
        again = ProductVectors.create(tmp_path, "tower", store.packing)
        assert again.get_many(keys(1, 2, 7)).known.tolist() == [True, True, False]
        again.append(keys(8), packed_of([8], store.packing))
        assert len(list(tmp_path.glob("*.rows.npy"))) == 2  # what the kill left is gone

    def test_vectors_of_another_tower_are_not_mixed_in(self, tmp_path):
        store = filled(tmp_path, [1])
        for identity, packing in (("other", store.packing), ("tower", Packing("int8", WIDTH))):
            with pytest.raises(DataError, match="another"):
                ProductVectors.create(tmp_path, identity, packing)

    @pytest.mark.parametrize("suffix", ["keys.npy", "rows.npy", "json"])
    def test_every_file_is_needed_and_checked(self, tmp_path, suffix):
        filled(tmp_path, range(50))
        (path,) = tmp_path.glob(f"*.{suffix}")
        content = path.read_bytes()
        for half in (content[: len(content) // 2], b""):
            path.write_bytes(half)
            with pytest.raises(ReleaseError, match=str(tmp_path)):
                ProductVectors.open(tmp_path)
        path.unlink()
        with pytest.raises(ReleaseError, match=str(tmp_path)):
            ProductVectors.open(tmp_path)

    def test_keys_that_were_tampered_with_are_refused(self, tmp_path):
        filled(tmp_path, range(50))
        (path,) = tmp_path.glob("*.keys.npy")
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(ReleaseError, match="not what was written"):
            ProductVectors.open(tmp_path)

    def test_vectors_that_rot_are_refused_when_small_and_told_when_large(
        self, tmp_path, monkeypatch
    ):
        store = filled(tmp_path, range(50))
        store.verify()
        rot(tmp_path, -1, b"\x01")
        with pytest.raises(ReleaseError, match="not what was written"):
            ProductVectors.open(tmp_path)
        monkeypatch.setattr("models.vectors.segments._VERIFIED_BYTES", 0)
        large = ProductVectors.open(tmp_path)
        with pytest.raises(ReleaseError, match="rotted"):
            large.verify()
        large.append(keys(77), packed_of([77], store.packing))
        with pytest.raises(ReleaseError, match="rotted"):
            large.merge()  # it would give what has rotted a new checksum
        with pytest.raises(ReleaseError, match="rotted"):
            large.keep_only(keys(*range(40)))

    def test_a_vector_that_is_no_number_is_not_known(self, tmp_path, monkeypatch):
        monkeypatch.setattr("models.vectors.segments._VERIFIED_BYTES", 0)
        store = filled(tmp_path, range(50))
        rot(tmp_path, -store.packing.stride, b"\xff" * store.packing.stride)
        opened = ProductVectors.open(tmp_path)
        assert opened.get_many(keys(*range(50))).known.tolist() == [True] * 49 + [False]
        assert opened.append(keys(49), packed_of([49], store.packing)) == 1
        np.testing.assert_array_equal(
            opened.get_many(keys(*range(50))).packed, packed_of(range(50), store.packing)
        )

    @pytest.mark.parametrize("large", [False, True])
    @pytest.mark.parametrize("damage", ["about", "keys", "rows", "gone"])
    def test_a_damaged_store_is_set_aside_and_filled_again(
        self, tmp_path, monkeypatch, caplog, damage, large
    ):
        if large:
            monkeypatch.setattr("models.vectors.segments._VERIFIED_BYTES", 0)
        store = filled(tmp_path, range(50))
        before = {path.name for path in tmp_path.iterdir()}
        if damage == "about":
            (tmp_path / ABOUT_FILE).write_text("{}")
        elif damage == "gone":
            next(tmp_path.glob("*.rows.npy")).unlink()
        else:
            rot(tmp_path, -1, b"\x01", damage)
        mended = ProductVectors.mended(tmp_path, "tower", store.packing)
        assert len(mended) == len(ProductVectors.open(tmp_path)) == 0
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "set aside" in caplog.text
        assert str(tmp_path) in caplog.text
        mended.append(keys(*range(50)), packed_of(range(50), store.packing))
        ProductVectors.open(tmp_path).verify()
        assert {path.name for path in tmp_path.iterdir()} == before  # nothing is left of it

    def test_a_whole_store_is_kept_and_one_that_cannot_be_read_too(
        self, tmp_path, monkeypatch, caplog
    ):
        packing = filled(tmp_path, range(50)).packing
        assert len(ProductVectors.mended(tmp_path, "tower", packing)) == 50
        with pytest.raises(DataError, match="another tower"):
            ProductVectors.mended(tmp_path, "other", packing)

        def refused(*_, **__):
            raise PermissionError(13, "refused")

        with monkeypatch.context() as patched:
            patched.setattr("models.vectors.segments.np.load", refused)
            with pytest.raises(ReleaseError, match="refused"):
                ProductVectors.mended(tmp_path, "tower", packing)
        assert len(ProductVectors.mended(tmp_path, "tower", packing)) == 50
        assert not caplog.records

    def test_vectors_that_are_no_numbers_are_not_stored(self, tmp_path):
        store = filled(tmp_path, [1])
        with pytest.raises(DataError, match="not finite"):
            store.append(keys(2), store.packing.pack(np.full((1, WIDTH), np.nan, np.float32)))

    def test_two_writers_keep_what_the_other_wrote(self, tmp_path):
        one, other = filled(tmp_path, []), filled(tmp_path, [])
        for number in range(6):
            writer = one if number % 2 else other
            writer.append(keys(number), packed_of([number], writer.packing))
        assert len(ProductVectors.open(tmp_path)) == 6
        one.merge()
        assert other.append(keys(3, 6), packed_of([3, 6], other.packing)) == 1
        other.merge()
        found = ProductVectors.open(tmp_path).get_many(keys(*range(7)))
        np.testing.assert_array_equal(found.packed, packed_of(range(7), one.packing))

    def test_a_store_made_anew_by_another_tower_is_not_written_to(self, tmp_path):
        store = filled(tmp_path, [1])
        (tmp_path / ABOUT_FILE).unlink()
        ProductVectors.create(tmp_path, "other", store.packing)
        with pytest.raises(DataError, match="another tower"):
            store.append(keys(2), packed_of([2], store.packing))

    def test_processes_that_write_at_once_lose_nothing(self, tmp_path):
        store = filled(tmp_path, [])
        writers = [started(tmp_path, _WRITES, str(start), "15") for start in (0, 1000)]
        for writer in writers:
            writer.communicate()
            assert writer.returncode == 0
        assert len(ProductVectors.open(tmp_path)) == 2 * 15 * 20
        ProductVectors.open(tmp_path).verify()
        store.merge()
        assert len(list(tmp_path.iterdir())) == 3

    def test_a_store_opens_while_another_process_writes(self, tmp_path):
        filled(tmp_path, [])
        with started(tmp_path, _WRITES, "0", "100000") as writer:
            try:
                sizes = []
                until = time.monotonic() + 30
                while time.monotonic() < until and len(set(sizes)) < 60:
                    sizes.append(len(ProductVectors.open(tmp_path)))
            finally:
                writer.kill()
        assert len(set(sizes)) >= 60
        assert sizes == sorted(sizes)

    def test_what_a_killed_merge_leaves_is_removed(self, tmp_path):
        store = filled(tmp_path, range(40), batches=2)
        with started(tmp_path, _MERGES_FOR_EVER) as merging:
            assert merging.stdout.readline() == "merging\n"
            merging.kill()
        assert merging.returncode == -signal.SIGKILL
        assert list(tmp_path.glob(".*.part"))
        store.append(keys(99), packed_of([99], store.packing))  # nor does its lock live on
        assert not list(tmp_path.glob(".*"))
        assert len(ProductVectors.open(tmp_path)) == 41

    def test_a_format_of_the_future_is_refused(self, tmp_path):
        filled(tmp_path, [1])
        about = json.loads((tmp_path / ABOUT_FILE).read_text())
        (tmp_path / ABOUT_FILE).write_text(json.dumps({**about, "format": 9}))
        with pytest.raises(ReleaseError, match="format 9"):
            ProductVectors.open(tmp_path)

    def test_rows_of_another_shape_are_refused(self, tmp_path):
        store = filled(tmp_path, [1])
        with pytest.raises(DataError, match="packed vectors of shape"):
            store.append(keys(2), np.zeros((1, 3), np.uint8))


_WRITES = f"""
import sys
from pathlib import Path
import numpy as np
from models.vectors.packing import Packing
from models.vectors.store import ProductVectors
folder, start, times = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
packing = Packing("fp16", {WIDTH})
store = ProductVectors.create(folder, "tower", packing)
for seed in range(start, start + times):
    keys = np.random.default_rng(seed).integers(0, 256, (20, {KEY_BYTES}), np.uint8)
    store.append(keys, packing.pack(np.ones((20, {WIDTH}), np.float32)))
    store.merge()
"""
_MERGES_FOR_EVER = """
import sys, time
from pathlib import Path
from models.vectors.store import ProductVectors
def gathered(self, owner, place):
    print("merging", flush=True)
    time.sleep(600)
ProductVectors._gathered = gathered
ProductVectors.open(Path(sys.argv[1])).merge()
"""


def started(folder: Path, code: str, *arguments: str) -> subprocess.Popen:
    """A process that runs `code`, of which the first argument is `folder`."""
    command = [sys.executable, "-c", code, str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def rot(folder: Path, at: int, found: bytes, of: str = "rows") -> None:
    """Write `found` over the bytes from `at` of the store's vectors, or keys."""
    (path,) = folder.glob(f"*.{of}.npy")
    content = bytearray(path.read_bytes())
    at %= len(content)
    content[at : at + len(found)] = found
    path.write_bytes(content)


def drawn_head(seed: int, hidden: int, width: int = WIDTH) -> PairHead:
    rng = np.random.default_rng(seed)
    shape = (width, hidden or 4)
    parts = [rng.normal(size=shape).astype(np.float32) for _ in range(4)]
    return PairHead(
        *parts,
        first_bias=rng.normal(size=shape[1]).astype(np.float32),
        second=rng.normal(size=(hidden, 4)).astype(np.float32),
        second_bias=rng.normal(size=4).astype(np.float32) if hidden else np.zeros(4, np.float32),
    )


class TestIdentity:
    """What vectors must have been made by, as the engine has it."""

    def identity(self, engine: str, variant: str, weights: Weights | None = None) -> str:
        gap = Gap(1, 0.0, 0.0)
        variants = {
            name: Exported(f"{name}.onnx", name, gap, milliseconds={}, weights=weights)
            for name in VARIANTS
        }
        report = FormReport(1, 0, WIDTH, 64, variants, {}, "none", 1)
        form = Form(Path("nowhere"), report, engine=engine, trained=lambda: None)
        return ServedTowers(
            reader=None,
            query_form=form,
            product_form=form,
            packing=Packing("fp16", WIDTH),
            head=drawn_head(1, 0),
            reader_digest="reader",
            product_variant=variant,
        ).identity

    def test_int8_is_another_s_where_the_engine_runs_float32(self):
        rounded, exact = (self.identity("onnxruntime", one) for one in ("int8", "fp32"))
        assert rounded != exact
        for engine in ("openvino", "torch"):
            assert self.identity(engine, "int8") == exact

    def test_weights_in_a_file_of_their_own_are_part_of_it(self):
        beside = [Weights("weights", digest) for digest in ("one", "other")]
        found = {self.identity("onnxruntime", "fp32", one) for one in (None, *beside)}
        assert len(found) == 3

    def test_float32_is_one_whatever_runs_it(self):
        assert len({self.identity(engine, "fp32") for engine in ENGINES}) == 1


class TestTally:
    def test_it_counts_what_was_looked_up_and_what_was_encoded(self, tmp_path, monkeypatch):
        products = Products.of(
            [{"product_id": str(n), "locale": "us", "title": "a"} for n in range(5)]
        )
        packing = Packing("fp16", WIDTH)
        store = ProductVectors.create(tmp_path, "tower", packing)
        store.append(product_keys(products)[:3], packing.pack(vectors(1, 3)))
        monkeypatch.setattr(
            ServedTowers, "encoded_products", lambda _, some: packing.pack(vectors(2, len(some)))
        )
        form = None  # nothing is encoded
        towers = ServedTowers(form, form, form, packing, drawn_head(1, 0), "reader")
        towers.product_vectors(products)
        assert towers.tally.counts == Counts(0, 5)
        looking_up = dataclasses.replace(towers, source=store, tally=Tally())
        for _ in range(2):
            looking_up.product_vectors(products)
        assert looking_up.tally.counts == Counts(stored=6, encoded=4)
        assert towers.tally.counts == Counts(0, 5)


@pytest.mark.parametrize("hidden", [0, 5])
class TestHead:
    @given(seed=st.integers(0, 999), pairs=st.integers(0, 20))
    def test_it_is_a_perceptron_over_both_vectors(self, hidden, seed, pairs):
        head, rng = drawn_head(seed, hidden), np.random.default_rng(seed)
        queries, products = vectors(seed, 3), vectors(seed + 1, 4)
        at_query, at_product = rng.integers(0, 3, pairs), rng.integers(0, 4, pairs)
        q, p = torch.from_numpy(queries[at_query]), torch.from_numpy(products[at_product])
        stacked = [head.of_query, head.of_product, head.of_distance, head.of_agreement]
        outputs = torch.cat([q, p, (q - p).abs(), q * p], dim=1) @ torch.from_numpy(
            np.concatenate(stacked)
        ) + torch.from_numpy(head.first_bias)
        if hidden:
            outputs = outputs.relu() @ torch.from_numpy(head.second)
            outputs += torch.from_numpy(head.second_bias)
        found = head.logits(queries, products, at_query, at_product)
        np.testing.assert_allclose(found, outputs.numpy(), atol=1e-5)
        assert found.shape == (pairs, 4)
        assert found.dtype == np.float32

    def test_saved_weights_come_back_to_the_bit(self, hidden, tmp_path):
        head = drawn_head(3, hidden)
        head.save(tmp_path / "head.npz")
        again = PairHead.load(tmp_path / "head.npz")
        again.save(tmp_path / "again.npz")
        assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "head.npz").read_bytes()
        rows = np.arange(5)
        np.testing.assert_array_equal(
            again.logits(vectors(1, 5), vectors(2, 5), rows, rows),
            head.logits(vectors(1, 5), vectors(2, 5), rows, rows),
        )

    def test_weights_that_do_not_fit_are_refused(self, hidden):
        head = drawn_head(3, hidden)
        with pytest.raises(DataError, match="of_product"):
            PairHead(
                head.of_query,
                head.of_product[1:],
                head.of_distance,
                head.of_agreement,
                head.first_bias,
                head.second,
                head.second_bias,
            )


@pytest.mark.parametrize(("hidden", "width"), [(0, 384), (128, 384), (600, 1000)])
def test_a_pair_gets_the_same_logits_to_the_bit_alone_and_among_others(hidden, width):
    head = drawn_head(1, hidden, width)
    queries, products = vectors(1, 3, width), vectors(2, 70, width)
    at_query, at_product = np.arange(70) % 3, np.arange(70)
    together = head.logits(queries, products, at_query, at_product)
    for rows in ([0], [5], [69], [7, 6], range(11, 60)):
        rows = np.array(rows)
        alone = head.logits(queries, products[rows], at_query[rows], np.arange(len(rows)))
        np.testing.assert_array_equal(alone, together[rows])


@pytest.mark.parametrize(("tokens", "padded_to"), [(3, 8), (8, 8), (9, 12)])
def test_texts_that_are_to_be_alike_are_never_alone_and_padded_in_steps(tokens, padded_to):
    # Twelve is as many tokens as a text may have here; a network may have no position beyond.
    shapes = []

    def session(batch):
        shapes.append(batch.ids.shape)
        return batch.mask.sum(axis=1, keepdims=True).astype(np.float32)

    texts = Sequences.of([[5] * tokens, [6] * 2])
    batches = [np.array([0]), np.array([1])]
    rows = run_plan(session, texts, batches, width=1, pad_id=0, alike_up_to=12)
    assert shapes == [(2, padded_to), (2, 8)]
    assert rows[:, 0].tolist() == [tokens, 2]
