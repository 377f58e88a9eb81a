"""What fitting towers puts together: their start, what they learn from, and what is exported."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.errors import ExportError
from models.language.backbones import find_backbone
from models.language.metric import fitting
from models.language.metric.fitting import TowersReport, export_towers, train_towers
from models.language.metric.options import MetricOptions
from models.language.metric.task import BiEncoderTask
from models.language.networks.encoder import open_encoder
from models.language.networks.towers import Towers
from models.language.presets import LoraOptions
from models.language.reading.reader import Reader, TextOptions
from models.language.served_towers import ServedTowers
from models.language.serving.form import Form
from models.language.serving.halves import halved
from models.language.serving.options import ServingOptions
from models.pairs import LabelledPairs, Queries
from models.training.options import ClassificationOptions, TrainingOptions
from models.training.steps.adversary import pushed
from models.vectors.packing import Packing
from models.workbench import NO_WORKBENCH
from tests.tiny import tiny_pairs

CPU = torch.device("cpu")
QUICK = ServingOptions(variants=("fp32",), measure_seconds=0)
# However much int8 loses by itself.
BOTH = dataclasses.replace(QUICK, variants=("fp32", "int8"), largest_difference=9.0, flip_rate=1.0)
FLOATS = ["form.json", "fp32.onnx"]
# In three locales, so that the pairs of one share no text with those of another.
BY_LOCALE = [tiny_pairs().take(rows) for rows in np.arange(24).reshape(3, 8)]


def nowhere(towers: ServedTowers, queries: Queries) -> NDArray[np.float32]:
    """Vectors that pass no gate."""
    return np.full((len(queries), towers.packing.width), np.nan, np.float32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def towers_of(
    count: int, dimensions: int | None = None, lora: LoraOptions | None = None
) -> tuple[Towers, Reader]:
    with TemporaryDirectory() as scratch, torch.random.fork_rng():
        backbone = find_backbone("tiny", Path(scratch), texts=tiny_pairs().products.title)
        torch.manual_seed(3)
        text = TextOptions(max_tokens=64, query_tokens=16)
        opened = [open_encoder(backbone, text, lora=lora) for _ in range(count)]
        towers = Towers.starting([encoder for encoder, _ in opened], dimensions, 0, 0.0)
    return towers.eval(), opened[0][1]


def task_of(
    monkeypatch: pytest.MonkeyPatch,
    towers: Towers,
    reader: Reader,
    train: LabelledPairs,
    valid: LabelledPairs,
    **metric: object,
) -> BiEncoderTask:
    """The task that `train_towers` would train."""
    tasks = []

    def caught(task: BiEncoderTask, *_: object) -> None:
        tasks.append(task)
        raise InterruptedError

    monkeypatch.setattr(fitting, "run_training", caught)
    with pytest.raises(InterruptedError):
        train_towers(
            towers,
            reader,
            train,
            valid,
            training=TrainingOptions(),
            classification=ClassificationOptions(),
            metric=MetricOptions(**metric),
            seed=3,
            bench=NO_WORKBENCH,
            identity="test",
        )
    return tasks[0]


class TestTask:
    def test_validation_reads_the_texts_of_the_validation_side(self, monkeypatch):
        towers, reader = towers_of(1)
        train, valid = BY_LOCALE[0], BY_LOCALE[2]
        found = task_of(monkeypatch, towers, reader, train, valid).evaluate(CPU)
        expected = task_of(monkeypatch, towers, reader, valid, valid).evaluate(CPU)
        assert found == pytest.approx(expected, abs=1e-6)
        assert found != pytest.approx(
            task_of(monkeypatch, towers, reader, train, train).evaluate(CPU), abs=1e-6
        )

    def test_products_of_others_in_the_batch_repel_if_asked(self, monkeypatch):
        towers, reader = towers_of(1)
        rows = np.arange(8)

        def loss(**metric: object) -> float:
            pairs = BY_LOCALE[0]
            only_first = pairs.take(np.array([0, 1, 6, 7]))  # no query has every product
            task = task_of(monkeypatch, towers, reader, only_first, pairs, **metric)
            with torch.no_grad():
                return float(task.loss(rows[:4], CPU))

        guessed, judged = (loss(loss="info_nce", in_batch=on) for on in (True, False))
        assert guessed > judged + 0.01

    def test_an_adversary_pushes_both_towers(self, monkeypatch):
        towers, reader = towers_of(2)
        pairs = BY_LOCALE[0]
        task = task_of(monkeypatch, towers, reader, pairs, pairs)
        task.loss(np.arange(len(pairs)), CPU).backward()
        tables = [towers.query.encoder.word_embeddings, towers.product.encoder.word_embeddings]
        before = [table.detach().clone() for table in tables]
        with pushed(task.adversarial(), 0.5):
            for table, was in zip(tables, before, strict=True):
                assert (table.detach() != was).any()


class TestStart:
    @pytest.mark.parametrize("dimensions", [None, 7])
    @pytest.mark.parametrize("lora", [None, LoraOptions()])
    def test_twin_towers_begin_as_one(self, dimensions, lora):
        towers, _ = towers_of(2, dimensions, lora)
        query, product = towers.query.state_dict(), towers.product.state_dict()
        assert query.keys() == product.keys()
        for name, tensor in query.items():
            torch.testing.assert_close(product[name], tensor, rtol=0, atol=0)
            assert tensor.data_ptr() != product[name].data_ptr()  # and go their own ways

    def test_a_projection_that_is_drawn_keeps_what_is_near_near(self):
        towers, reader = towers_of(2, 7)
        task_texts = reader.alone(reader.read_products(tiny_pairs().products))
        ids = torch.from_numpy(task_texts.take(np.array([0])).ids.astype(np.int64))[None]
        given = ids, torch.ones_like(ids), torch.zeros_like(ids)
        with torch.no_grad():
            torch.testing.assert_close(towers.query(*given), towers.product(*given))


def exported(
    folder: Path,
    count: int,
    precision: str,
    options: ServingOptions,
    product_variant: str = "fp32",
) -> TowersReport:
    towers, reader = towers_of(count)
    return export_towers(
        towers,
        reader,
        folder,
        packing=Packing(precision, towers.product.width),
        product_variant=product_variant,
        held_out=tiny_pairs(),
        options=options,
    )


class TestGates:
    def test_packing_that_loses_too_much_is_refused(self, tmp_path):
        strict = dataclasses.replace(QUICK, largest_difference=1e-4)
        with pytest.raises(ExportError, match="packed as int8"):
            exported(tmp_path, 1, "int8", strict)
        report = exported(tmp_path / "fp32", 1, "fp32", strict)
        assert report.packing.largest_difference == 0
        assert report.served["fp32"].pairs == 24

    def test_losses_that_pass_one_by_one_must_pass_together(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ServedTowers, "query_vectors", nowhere)
        with pytest.raises(ExportError, match="together"):
            exported(tmp_path, 1, "fp32", QUICK)

    def test_int8_queries_that_fail_only_together_are_left_out(self, tmp_path, monkeypatch):
        right = ServedTowers.query_vectors

        def vectors(towers, queries):
            lost = towers.query_variant != "fp32"
            return (nowhere if lost else right)(towers, queries)

        monkeypatch.setattr(Form, "variant_for", lambda *_: "int8")  # whatever was measured
        monkeypatch.setattr(ServedTowers, "query_vectors", vectors)
        report = exported(tmp_path, 1, "fp16", BOTH)
        assert set(report.served) == {"fp32"}
        assert set(report.forms["both"].variants) == {"fp32"}
        assert (
            "int8 queries, fp32 products and fp16 vectors" in report.forms["both"].left_out["int8"]
        )
        assert sorted(path.name for path in (tmp_path / "both").iterdir()) == FLOATS
        assert Form.load(tmp_path / "both").report == report.forms["both"]

    @pytest.mark.slow
    def test_int8_products_that_fail_only_together_are_left_out(self, tmp_path, monkeypatch):
        right = ServedTowers.product_vectors

        def vectors(towers, products):
            packed = right(towers, products)
            return packed[::-1] if "int8" in towers.product_form.variants else packed

        monkeypatch.setattr(ServedTowers, "product_vectors", vectors)
        options = dataclasses.replace(BOTH, largest_difference=0.1)
        report = exported(tmp_path, 2, "fp16", options, product_variant="int8")
        assert set(report.forms["query"].variants) == {"fp32", "int8"}
        assert "fp32 queries, int8 products" in report.forms["product"].left_out["int8"]
        assert set(report.served) == {"fp32", "int8"}
        assert sorted(path.name for path in (tmp_path / "product").iterdir()) == FLOATS

    def test_int8_is_judged_together_on_the_pairs_it_did_not_choose_by(self, tmp_path):
        report = exported(tmp_path, 1, "fp16", BOTH)
        judging = len(halved(tiny_pairs().query_rows).judging)
        assert {name: gap.pairs for name, gap in report.served.items()} == {
            "fp32": 24,
            "int8": judging,
        }
        assert report.served["int8"].largest_difference > 3 * (
            report.served["fp32"].largest_difference
        )
        assert report.forms["both"].variants["int8"].gap.pairs == judging

    @pytest.mark.parametrize("broken", ["query", "product"])
    def test_a_broken_form_of_either_of_two_towers_is_refused(self, tmp_path, monkeypatch, broken):
        export = fitting.export_form

        def breaking(module, folder, *, answers, **more):
            runs = []

            def last_ones_wrong(run):
                runs.append(run)
                right = len(runs) == 1 or folder.name != broken
                return answers(run if right else lambda texts: run(texts)[::-1])

            return export(module, folder, answers=last_ones_wrong, **more)

        monkeypatch.setattr(fitting, "export_form", breaking)
        with pytest.raises(ExportError, match="fp32"):
            exported(tmp_path, 2, "fp32", QUICK)
