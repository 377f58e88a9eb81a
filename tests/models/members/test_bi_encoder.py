"""The bi-encoder: how it is trained, what it exports, and that stored vectors change no answer."""

import dataclasses
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytest
import torch

from models.errors import ConfigError, DataError, NotFittedError, ReleaseError
from models.language.backbones import find_backbone
from models.language.metric.fitting import train_towers
from models.language.metric.options import MetricOptions, TcmOptions
from models.language.metric.task import BiEncoderTask
from models.language.networks.encoder import open_encoder
from models.language.networks.towers import Tower, Towers
from models.language.reading.reader import TextOptions
from models.language.reading.sequences import padded
from models.language.serving.form import Form
from models.language.serving.options import ServingOptions
from models.members.bi_encoder import BiEncoderMember, BiEncoderOptions
from models.members.lexical import LexicalMember
from models.pairs import Pairs, Products
from models.training.options import ClassificationOptions, TrainingOptions
from models.vectors import filling
from models.vectors.comparison import ComparisonHead
from models.vectors.embedder import Embedder
from models.vectors.packing import Packing
from models.vectors.source import Found, product_keys
from models.vectors.store import ProductVectors
from models.workbench import NO_WORKBENCH, Workbench
from tests.tiny import tiny_pairs

QUICK = BiEncoderOptions(
    backbone="tiny",
    hidden=0,
    text=TextOptions(max_tokens=64, query_tokens=16),
    training=TrainingOptions(epochs=3, batch_size=8, learning_rate=3e-3),
    serving=ServingOptions(variants=("fp32",), measure_seconds=0),
)
TWIN = dataclasses.replace(
    QUICK,
    towers="twin",
    dimensions=16,
    hidden=8,
    vectors="int8",
    metric=MetricOptions(loss="info_nce", tcm=TcmOptions(weight=0.5)),
)
# The labels may well be wrong after so little training; that vectors say the same is what counts.
SHAPES = {"shared": QUICK, "twin": TWIN}
each_shape = pytest.mark.parametrize("shape", sorted(SHAPES))


def quickly(**changes) -> BiEncoderOptions:
    return dataclasses.replace(QUICK, **changes)


def training(**changes) -> TrainingOptions:
    return dataclasses.replace(QUICK.training, **changes)


@cache
def fitted(shape: str) -> BiEncoderMember:
    pairs = tiny_pairs()
    return BiEncoderMember("towers", SHAPES[shape]).fit(pairs, pairs)


@cache
def quantised(shape: str) -> BiEncoderMember:
    """A member with an int8 variant of each network, however much it loses."""
    serving = ServingOptions(measure_seconds=0, largest_difference=100, flip_rate=1)
    options = dataclasses.replace(SHAPES[shape], serving=serving, training=training(epochs=1))
    pairs = tiny_pairs()
    return BiEncoderMember("towers", options).fit(pairs, pairs)


def changed(products: Products, row: int, title: str) -> Products:
    rows = [
        {"product_id": products.ids[at], "locale": products.locale(at), **products.texts(at)}
        for at in range(len(products))
    ]
    rows[row]["title"] = title
    return Products.of(rows)


@each_shape
class TestVectors:
    def test_stored_vectors_change_no_answer(self, shape, tmp_path):
        member, pairs = fitted(shape), tiny_pairs().without_labels()
        store = member.precompute(pairs.products, tmp_path / "vectors")
        assert len(store) == len(pairs.products)
        stored = member.with_vectors(store)
        np.testing.assert_array_equal(stored.predict_logits(pairs), member.predict_logits(pairs))
        np.testing.assert_array_equal(stored.similarities(pairs), member.similarities(pairs))

    def test_nor_do_those_of_half_the_products_or_encoding_one_at_a_time(self, shape, tmp_path):
        member, pairs = fitted(shape), tiny_pairs().without_labels()
        store = None
        for row in range(0, len(pairs.products), 2):
            store = member.precompute(pairs.products.take(np.array([row])), tmp_path / "vectors")
        stored = member.with_vectors(store)
        np.testing.assert_array_equal(stored.predict_logits(pairs), member.predict_logits(pairs))

    @pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
    @pytest.mark.parametrize("network", ["fp32", "int8"])
    def test_a_vector_is_the_same_to_the_bit_whatever_it_is_made_with(
        self, shape, network, precision
    ):
        served, products = quantised(shape)._fitted.served, tiny_pairs().products
        assert served.product_form.variants == ("fp32", "int8")
        packing = Packing(precision, served.packing.width)
        served = dataclasses.replace(served, packing=packing, product_variant=network)
        block = served.encoded_products(products)
        shuffled = np.random.default_rng(1).permutation(len(products))
        for size in (1, 2, 5, len(products)):
            for start in range(0, len(products), size):
                rows = shuffled[start : start + size]
                np.testing.assert_array_equal(
                    served.encoded_products(products.take(rows)), block[rows]
                )

    def test_no_clock_decides_what_is_answered_offline(self, shape, monkeypatch):
        member, pairs = quantised(shape), tiny_pairs()
        expected = member.predict_logits(pairs)
        monkeypatch.setattr(Form, "variant_for", lambda *_: "int8")  # whatever was measured
        np.testing.assert_array_equal(member.predict_logits(pairs), expected)
        quickest = member.quickest()
        assert not np.array_equal(quickest.predict_logits(pairs), expected)
        assert quickest.vectors_identity() == member.vectors_identity()

    def test_no_request_waits_for_an_engine_to_open(self, shape, tmp_path, monkeypatch):
        quantised(shape).save(tmp_path)
        monkeypatch.setattr(Form, "variant_for", lambda *_: "int8")
        quickest = BiEncoderMember.load(tmp_path).quickest()
        monkeypatch.setattr(Form, "_opened", None)
        assert len(quickest.predict_logits(tiny_pairs())) == 24

    def test_so_is_that_of_a_query(self, shape):
        served, queries = fitted(shape)._fitted.served, tiny_pairs().queries
        together = served.query_vectors(queries)
        for row in range(len(queries)):
            alone = served.query_vectors(queries.take(np.array([row])))
            np.testing.assert_array_equal(alone[0], together[row])

    def test_vectors_mean_nothing_to_another_reader_network_or_packing(self, shape):
        served = quantised(shape)._fitted.served
        changes = [
            {},
            {"reader_digest": "another"},
            {"product_variant": "int8"},
            {"packing": Packing("fp32", served.packing.width)},
        ]
        found = {dataclasses.replace(served, **change).identity for change in changes}
        assert len(found) == len(changes)

    def test_no_clock_and_no_engine_decide_what_vectors_mean(self, shape, tmp_path, monkeypatch):
        member = quantised(shape)
        member.save(tmp_path)
        identities = []
        for engine in ("onnxruntime", "torch"):
            monkeypatch.setenv("ESCI_LANGUAGE_ENGINE", engine)
            for fast in ("fp32", "int8"):
                served = BiEncoderMember.load(tmp_path)._fitted.served
                served.product_form._milliseconds = {
                    name: {128: float(name != fast)} for name in ("fp32", "int8")
                }
                identities.append(served.identity)
        assert set(identities) == {member._fitted.served.identity}

    def test_known_products_are_not_encoded(self, shape, tmp_path, monkeypatch):
        member, pairs = fitted(shape), tiny_pairs().without_labels()
        stored = member.with_vectors(member.precompute(pairs.products, tmp_path / "vectors"))
        asked = []

        def encoded(self, products):
            asked.append(len(products))
            return np.empty((0, self.packing.stride), np.uint8)

        monkeypatch.setattr(type(member._fitted.served), "encoded_products", encoded)
        stored.predict_logits(pairs)
        assert asked == [0]

    def test_what_is_stored_is_what_answers(self, shape, tmp_path):
        # Else the laws above would hold for a member that looks at no vectors.
        member, pairs = fitted(shape), tiny_pairs().without_labels()
        store = member.precompute(pairs.products, tmp_path / "vectors")

        class Shifted:
            identity = store.identity

            def get_many(self, keys):
                return Found(np.ones(len(keys), bool), store.get_many(np.roll(keys, 1, 0)).packed)

        assert (
            member.with_vectors(Shifted()).predict_logits(pairs) != member.predict_logits(pairs)
        ).any()

    def test_a_changed_text_is_not_answered_from_the_store(self, shape, tmp_path):
        member, pairs = fitted(shape), tiny_pairs().without_labels()
        stored = member.with_vectors(member.precompute(pairs.products, tmp_path / "vectors"))
        products = changed(pairs.products, 0, "a ladder of eleven feet")
        asked = Pairs(pairs.queries, products, pairs.query_rows, pairs.product_rows)
        found, before = stored.predict_logits(asked), stored.predict_logits(pairs)
        np.testing.assert_array_equal(found, member.predict_logits(asked))
        assert (found != before).any(axis=1).sum() == (pairs.product_rows == 0).sum()

    @pytest.mark.parametrize("kept", [0, 8])
    def test_precomputing_goes_on_where_it_was(self, shape, tmp_path, monkeypatch, kept):
        monkeypatch.setattr(filling, "BLOCK_PRODUCTS", 4)
        # Written after two blocks, or only with the last: then a kill costs all there was.
        monkeypatch.setattr(filling, "_WRITTEN_PRODUCTS", kept or 100)
        member, products = fitted(shape), tiny_pairs().products

        def killed(done, total):
            if done >= 8:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            member.precompute(products, tmp_path / "vectors", killed)
        assert len(ProductVectors.open(tmp_path / "vectors")) == kept
        ticks = []
        store = member.precompute(
            products, tmp_path / "vectors", lambda done, total: ticks.append((done, total))
        )
        assert ticks == [(done, 12) for done in range(kept, 13, 4)]
        assert store.get_many(product_keys(products)).known.all()
        assert len(list((tmp_path / "vectors").glob("*.rows.npy"))) == 1

    def test_nothing_is_precomputed_of_no_products(self, shape, tmp_path):
        nothing = tiny_pairs().products.take(np.empty(0, np.int64))
        assert len(fitted(shape).precompute(nothing, tmp_path)) == 0

    def test_vectors_of_another_member_are_refused(self, shape, tmp_path):
        other = fitted("twin" if shape == "shared" else "shared")
        store = other.precompute(tiny_pairs().products, tmp_path / "vectors")
        with pytest.raises(ReleaseError, match="compute them again"):
            fitted(shape).with_vectors(store)
        with pytest.raises(DataError, match="another"):
            fitted(shape).precompute(tiny_pairs().products, tmp_path / "vectors")

    def test_it_is_known_to_compare_vectors(self, shape):
        assert issubclass(BiEncoderMember, Embedder)
        assert not issubclass(LexicalMember, Embedder)
        assert fitted(shape).vectors_identity() == fitted(shape)._fitted.served.identity

    def test_a_saved_member_takes_the_vectors_of_the_fitted_one(self, shape, tmp_path):
        member, pairs = fitted(shape), tiny_pairs().without_labels()
        store = member.precompute(pairs.products, tmp_path / "vectors")
        member.save(tmp_path / "member")
        again = BiEncoderMember.load(tmp_path / "member").with_vectors(store)
        np.testing.assert_array_equal(again.predict_logits(pairs), member.predict_logits(pairs))

    def test_cosines_are_of_unit_vectors(self, shape):
        member, pairs = fitted(shape), tiny_pairs().without_labels()
        served = member._fitted.served
        vectors = served.query_vectors(pairs.queries)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        products = served.packing.unpack(served.product_vectors(pairs.products))
        np.testing.assert_allclose(np.linalg.norm(products, axis=1), 1, atol=0.01)
        expected = (vectors[pairs.query_rows] * products[pairs.product_rows]).sum(axis=1)
        np.testing.assert_allclose(member.similarities(pairs), expected, atol=1e-6)


@each_shape
class TestFolder:
    def test_it_holds_a_form_and_a_backbone_for_each_tower(self, shape, tmp_path):
        fitted(shape).save(tmp_path)
        names = ["both"] if shape == "shared" else ["product", "query"]
        assert sorted(path.name for path in (tmp_path / "form").iterdir()) == names
        for name in names:
            assert (tmp_path / "trained" / name / "model.safetensors").is_file()
            assert (tmp_path / "trained" / name / "tokenizer.json").is_file()
        made = json.loads((tmp_path / "member.json").read_text())["made"]
        assert made["packing"]["flip_rate"] <= 0.005
        assert made["served"]["fp32"]["flip_rate"] <= 0.005
        assert made["options"]["product_variant"] == "fp32"
        assert made["backbone"]["name"] == "tiny"

    def test_a_trained_tower_is_a_backbone_again(self, shape, tmp_path):
        member = fitted(shape)
        member.save(tmp_path)
        folder = tmp_path / "trained" / ("both" if shape == "shared" else "query")
        encoder, reader = open_encoder(find_backbone(str(folder), tmp_path), QUICK.text)
        assert encoder.pooling == "cls"
        queries = tiny_pairs().queries
        texts = [
            again.alone(again.read_queries(queries.texts))
            for again in (reader, member._fitted.served.reader)
        ]
        np.testing.assert_array_equal(texts[0].ids, texts[1].ids)

    def test_torch_answers_as_the_exported_form_does(self, shape, tmp_path, monkeypatch):
        member, pairs = fitted(shape), tiny_pairs().without_labels()
        member.save(tmp_path)
        monkeypatch.setenv("ESCI_LANGUAGE_ENGINE", "torch")
        by_torch = BiEncoderMember.load(tmp_path)
        np.testing.assert_allclose(
            by_torch.predict_logits(pairs), member.predict_logits(pairs), atol=0.02
        )


class Trained(NamedTuple):
    towers: Towers
    cosines: np.ndarray  # of the tiny pairs


def trained(options: BiEncoderOptions, bench: Workbench = NO_WORKBENCH) -> Trained:
    """Towers trained on the tiny pairs and not exported, which is most of what a fit takes."""
    pairs = tiny_pairs()
    with TemporaryDirectory() as scratch, torch.random.fork_rng():
        backbone = find_backbone("tiny", Path(scratch), texts=pairs.products.title)
        torch.manual_seed(3)
        encoder, reader = open_encoder(backbone, options.text)
        tower = Tower(encoder, options.dimensions)
        towers = Towers([tower], ComparisonHead(tower.width, options.hidden, options.dropout))
    train_towers(
        towers,
        reader,
        pairs,
        pairs,
        training=options.training,
        classification=options.classification,
        metric=options.metric,
        seed=3,
        bench=bench,
        identity="test",
    )

    def vectors(sequences) -> np.ndarray:
        batch = padded(sequences, np.arange(len(sequences)), reader.layout.pad_id)
        parts = [torch.from_numpy(part) for part in (batch.ids, batch.mask, batch.segments)]
        with torch.no_grad():
            return towers.product(*parts).numpy()

    q = vectors(reader.alone(reader.read_queries(pairs.queries.texts)))
    p = vectors(reader.alone(reader.read_products(pairs.products)))
    return Trained(towers, (q[pairs.query_rows] * p[pairs.product_rows]).sum(axis=1))


def gap_of(cosines: np.ndarray) -> float:
    """How much nearer Exact products are than Irrelevant ones."""
    labels = tiny_pairs().labels
    return float(cosines[labels == 0].mean() - cosines[labels == 3].mean())


class TestTraining:
    @pytest.mark.parametrize("term", ["info_nce", "tcm"])
    def test_gains_decide_what_attracts_and_what_repels(self, term):
        # The labels pull the same way whatever the gains say, so both trainings have them.
        def gap(gain: float) -> float:
            tcm = TcmOptions(weight=20.0 if term == "tcm" else 0.0)
            metric = MetricOptions(
                loss="none" if term == "tcm" else "info_nce",
                weight=20.0,
                gain_exact=gain,
                gain_irrelevant=-gain,
                tcm=tcm,
            )
            learning = training(epochs=30, learning_rate=5e-3, batch_size=24, keep_best=False)
            return gap_of(trained(quickly(metric=metric, training=learning)).cosines)

        assert gap(1.0) > gap(-1.0) + 0.5

    def test_a_frozen_backbone_stays_as_it_is_and_the_head_learns(self):
        short, long = (
            trained(quickly(training=training(trained_layers=0, epochs=epochs))).towers
            for epochs in (1, 4)
        )
        np.testing.assert_array_equal(
            short.product.encoder.word_embeddings.detach(),
            long.product.encoder.word_embeddings.detach(),
        )
        assert (short.head.first.weight != long.head.first.weight).any()

    def test_a_projection_of_a_frozen_backbone_learns_from_a_metric_loss(self):
        def projection(weight: float) -> np.ndarray:
            options = quickly(
                dimensions=32,
                training=training(trained_layers=0),
                metric=MetricOptions(tcm=TcmOptions(weight=weight)),
            )
            return trained(options).towers.product.projection.weight.detach().numpy()

        assert np.abs(projection(5.0) - projection(0.0)).max() > 1e-3

    def test_top_layers_alone_are_trained_from_what_was_kept_of_the_lower(self):
        kept = training(trained_layers=1, epochs=2, cache_precision="fp32")
        anew = dataclasses.replace(kept, cache_megabytes=0)
        np.testing.assert_allclose(
            trained(quickly(training=kept)).cosines,
            trained(quickly(training=anew)).cosines,
            atol=1e-4,
        )

    def test_an_interrupted_training_ends_as_an_uninterrupted_one(self, tmp_path, monkeypatch):
        options = quickly(
            training=training(epochs=4, checkpoint_seconds=1e-9),
            metric=MetricOptions(loss="info_nce"),
        )
        whole = trained(options)
        steps = []

        class KilledError(Exception):
            pass

        def killed(self, *given):
            steps.append(1)
            if len(steps) == 6:
                raise KilledError
            return loss(self, *given)

        loss = BiEncoderTask.loss
        monkeypatch.setattr(BiEncoderTask, "loss", killed)
        with pytest.raises(KilledError):
            trained(options, Workbench(tmp_path))
        resumed = trained(options, Workbench(tmp_path))
        assert len(steps) == 6 + 12 - 5  # of twelve steps, five were not taken again
        np.testing.assert_array_equal(resumed.cosines, whole.cosines)

    def test_no_pairs_teach_nothing(self):
        nothing = tiny_pairs().take(np.empty(0, np.int64))
        with pytest.raises(DataError, match="no training pairs"):
            BiEncoderMember("towers", QUICK).fit(nothing, tiny_pairs())

    def test_an_unfitted_member_has_no_vectors(self, tmp_path):
        with pytest.raises(NotFittedError):
            BiEncoderMember("towers").precompute(tiny_pairs().products, tmp_path)


class TestOptions:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"dropout": 1.0}, "dropout"),
            ({"hidden": -1}, "hidden"),
            ({"dimensions": 0}, "dimensions"),
            ({"classification": ClassificationOptions(distil=2)}, "cross-encoders"),
            (
                {
                    "training": TrainingOptions(trained_layers=0),
                    "metric": MetricOptions(loss="info_nce"),
                },
                "nothing of them learns",
            ),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, changes, message):
        with pytest.raises(ConfigError, match=message):
            BiEncoderOptions(**changes)


def test_a_member_answers_without_torch(tmp_path: Path):
    from tests.test_imports import HEAVY, _run_without

    fitted("shared").save(tmp_path)
    code = f"""
from pathlib import Path
from models.members.bi_encoder import BiEncoderMember
from tests.tiny import tiny_pairs
member = BiEncoderMember.load(Path({str(tmp_path)!r}))
assert member.predict_logits(tiny_pairs()).shape == (24, 4)
store = member.precompute(tiny_pairs().products, Path({str(tmp_path / "vectors")!r}))
assert member.with_vectors(store).predict_logits(tiny_pairs()).shape == (24, 4)
"""
    _run_without((*HEAVY, "pyarrow", "sklearn", "scipy", "matplotlib", "safetensors"), code)
