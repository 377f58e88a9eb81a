"""Packed vectors, the store of a catalogue's, and the head that compares them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DataError, ReleaseError
from models.language.vectors.head import PairHead
from models.language.vectors.packing import Packing
from models.language.vectors.source import KEY_BYTES, VectorSource, product_keys
from models.language.vectors.store import ABOUT_FILE, ProductVectors
from models.pairs import Products

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

        monkeypatch.setattr("models.language.vectors.store.write_json", killed)
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


def drawn_head(seed: int, hidden: int) -> PairHead:
    rng = np.random.default_rng(seed)
    shape = (WIDTH, hidden or 4)
    parts = [rng.normal(size=shape).astype(np.float32) for _ in range(4)]
    return PairHead(
        *parts,
        first_bias=rng.normal(size=shape[1]).astype(np.float32),
        second=rng.normal(size=(hidden, 4)).astype(np.float32),
        second_bias=rng.normal(size=4).astype(np.float32) if hidden else np.zeros(4, np.float32),
    )


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
