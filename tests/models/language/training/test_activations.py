import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.errors import ConfigError, MemberError
from models.language.backbones import find_backbone
from models.language.networks.encoder import Encoder, open_encoder
from models.language.reading.reader import TextOptions
from models.language.reading.sequences import Sequences
from models.language.training import activations
from models.language.training.activations import EncodedTexts
from models.training.options import TrainingOptions
from models.workbench import NO_WORKBENCH, Workbench
from tests.tiny import tiny_pairs

CPU = torch.device("cpu")
EXACT = TrainingOptions(trained_layers=1, cache_precision="fp32")
ROWS = np.array([5, 0, 17, 5, 23])
ARCHITECTURES = ["bert", "deberta-v2", "xlm-roberta", "modernbert", "qwen2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("backbones")


def opened(folder, architecture="bert", pooling=None) -> tuple[Encoder, Sequences, int]:
    pairs = tiny_pairs()
    texts = [*pairs.queries.texts, *pairs.products.title]
    backbone = find_backbone(f"tiny:{architecture}", folder, texts=texts)
    text = TextOptions(max_tokens=48, query_tokens=16)
    encoder, reader = open_encoder(backbone, text, pooling=pooling)
    return encoder, reader.read_pairs(pairs), reader.layout.pad_id


def prepared(folder, options=EXACT, bench=NO_WORKBENCH, **of) -> EncodedTexts:
    texts = EncodedTexts.prepare(*opened(folder, **of), options, bench)
    texts.encoder.eval()
    return texts


def uncached(folder, options=EXACT, **of) -> EncodedTexts:
    return prepared(folder, replace(options, cache_megabytes=0), **of)


def loss_and_gradients(texts: EncodedTexts) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    texts.encoder.train()
    torch.manual_seed(3)
    loss = texts.vectors(ROWS, CPU).square().sum()
    loss.backward()
    parameters = texts.encoder.named_parameters()
    return loss.detach(), {name: p.grad for name, p in parameters if p.grad is not None}


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [
        *((architecture, None) for architecture in ARCHITECTURES),
        ("xlm-roberta", "compared"),
        ("modernbert", "compared"),
    ],
)
def test_training_from_what_was_kept_is_training_with_frozen_layers(folder, architecture, pooling):
    of = {"architecture": architecture, "pooling": pooling}
    texts = [make(folder, **of) for make in (prepared, uncached)]
    if pooling == "compared":  # so that it matters that segments are kept too
        assert set(np.unique(texts[0].sequences.segments)) == {0, 1}
    kept, expected = map(loss_and_gradients, texts)
    torch.testing.assert_close(kept[0], expected[0], rtol=1e-5, atol=1e-6)
    assert kept[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(kept[1][name], gradient, rtol=1e-4, atol=1e-5)


def test_frozen_layers_are_those_below_and_learn_nothing(folder):
    texts = prepared(folder)
    _, gradients = loss_and_gradients(texts)
    layers = {name.split("layer.")[1][0] for name in gradients if "layer." in name}
    assert layers == {"1"}
    assert not [name for name in gradients if "embeddings" in name]


@pytest.mark.parametrize("pooling", ["mean", "compared"])
def test_all_layers_frozen_leave_the_vectors(folder, tmp_path, pooling):
    options = replace(EXACT, trained_layers=0)
    texts = prepared(folder, options, Workbench(tmp_path), pooling=pooling)
    encoder, sequences, pad_id = opened(folder, pooling=pooling)
    whole = EncodedTexts.prepare(encoder.eval(), sequences, pad_id, TrainingOptions())
    with torch.no_grad():
        expected = whole.vectors(ROWS, CPU)
    texts.encoder.train()  # no dropout there either
    found = texts.vectors(ROWS, CPU)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not found.requires_grad
    (kept,) = tmp_path.glob("*.bin")
    assert kept.stat().st_size == len(texts) * texts.encoder.width * 4


@pytest.mark.parametrize(("precision", "off"), [("fp16", 1e-2), ("bf16", 6e-2)])
def test_half_precision_takes_half_the_room_and_is_near(folder, tmp_path, precision, off):
    options = replace(EXACT, cache_precision=precision)
    texts = prepared(folder, options, Workbench(tmp_path))
    found, expected = texts.vectors(ROWS, CPU), uncached(folder).vectors(ROWS, CPU)
    torch.testing.assert_close(found, expected, atol=off, rtol=0)
    assert not torch.equal(found, expected)
    (kept,) = tmp_path.glob("*.bin")
    tokens = int(texts.sequences.starts[-1])
    assert kept.stat().st_size == tokens * texts.encoder.width * 2


def test_all_layers_learn_where_no_number_is_given(folder):
    texts = prepared(folder, TrainingOptions())
    _, gradients = loss_and_gradients(texts)
    assert [name for name in gradients if "word_embeddings" in name]


def test_all_layers_but_the_embeddings_learn_where_all_are_named(folder, tmp_path):
    texts = prepared(folder, replace(EXACT, trained_layers=2), Workbench(tmp_path))
    _, gradients = loss_and_gradients(texts)
    assert [name for name in gradients if "layer.0" in name]
    assert not [name for name in gradients if "embeddings" in name]
    assert not list(tmp_path.iterdir())  # nothing worth keeping


def test_more_layers_than_there_are_is_refused(folder):
    with pytest.raises(ConfigError, match="trained_layers 3 of a backbone that has 2"):
        prepared(folder, replace(EXACT, trained_layers=3))


class TestRoom:
    def test_too_little_of_it_computes_at_every_step_and_says_so(self, folder, caplog):
        with caplog.at_level(logging.WARNING):
            texts = uncached(folder)
        assert "cache_megabytes is 0" in texts.note
        assert texts.note in caplog.text
        assert prepared(folder).note == ""

    def test_a_full_disk_does_too(self, folder, monkeypatch, tmp_path):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.posix_fallocate", full)
        texts = prepared(folder, bench=Workbench(tmp_path))
        assert "no room for 0 MB" in texts.note
        assert not list(tmp_path.iterdir())
        torch.testing.assert_close(texts.vectors(ROWS, CPU), uncached(folder).vectors(ROWS, CPU))

    def test_numbers_that_do_not_fit_are_refused(self, folder):
        encoder, sequences, pad_id = opened(folder)
        with torch.no_grad():
            encoder.word_embeddings[:] = 1e30
            for name, parameter in encoder.named_parameters():
                if "embeddings.LayerNorm.weight" in name:
                    parameter[:] = 1e6
        # The layer's own norm would hide it: keep what the embeddings give.
        for name, parameter in encoder.named_parameters():
            if "layer.0.output.LayerNorm.weight" in name:
                parameter.data[:] = 1e6
        with pytest.raises(MemberError, match="do not fit fp16"):
            EncodedTexts.prepare(encoder, sequences, pad_id, replace(EXACT, cache_precision="fp16"))

    def test_a_temporary_folder_goes_with_the_texts(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        texts = prepared(folder)
        assert len(list(tmp_path.iterdir())) == 1
        del texts
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemberError])
    def test_nor_does_a_temporary_folder_stay_after_an_error(
        self, folder, tmp_path, monkeypatch, error
    ):
        seen = []

        def broken(*_):
            seen.extend(tmp_path.glob("*/*.bin"))
            raise error

        encoder, sequences, pad_id = opened(folder)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr(Encoder, "lower", broken)
        with pytest.raises(error):
            EncodedTexts.prepare(encoder, sequences, pad_id, EXACT)
        assert len(seen) == 1
        assert not list(tmp_path.iterdir())

    def test_nor_after_a_full_disk(self, folder, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        encoder, sequences, pad_id = opened(folder)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr("os.posix_fallocate", full)
        texts = EncodedTexts.prepare(encoder, sequences, pad_id, EXACT)
        assert "no room" in texts.note
        assert not list(tmp_path.iterdir())


class TestReuse:
    def count(self, monkeypatch) -> list[int]:
        """How many texts each call of the lower layers is given."""
        calls: list[int] = []
        lower = Encoder.lower

        def counted(self, layers, ids, *rest):
            calls.append(len(ids))
            return lower(self, layers, ids, *rest)

        monkeypatch.setattr(Encoder, "lower", counted)
        return calls

    def test_what_is_there_is_not_computed_again(self, folder, tmp_path, monkeypatch):
        calls = self.count(monkeypatch)
        first = prepared(folder, bench=Workbench(tmp_path)).vectors(ROWS, CPU)
        assert sum(calls) == 24
        calls.clear()
        again = prepared(folder, bench=Workbench(tmp_path)).vectors(ROWS, CPU)
        assert calls == []
        assert torch.equal(first, again)

    def test_another_backbone_text_or_precision_is(self, folder, tmp_path, monkeypatch):
        bench = Workbench(tmp_path)
        prepared(folder, bench=bench)
        calls = self.count(monkeypatch)
        encoder, sequences, pad_id = opened(folder)
        EncodedTexts.prepare(encoder, sequences.take(np.arange(23)), pad_id, EXACT, bench)
        assert sum(calls) == 23
        prepared(folder, replace(EXACT, cache_precision="bf16"), bench)
        assert sum(calls) == 23 + 24
        with torch.no_grad():
            encoder.word_embeddings[7, 0] += 1e-3
        EncodedTexts.prepare(encoder, sequences, pad_id, EXACT, bench)
        assert sum(calls) == 23 + 24 + 24
        # What learns is no part of it: every fold of a distillation shares one file.
        encoder, sequences, pad_id = opened(folder)
        with torch.no_grad():
            for name, parameter in encoder.named_parameters():
                if "layer.1" in name:
                    parameter += 1
        EncodedTexts.prepare(encoder, sequences, pad_id, EXACT, bench)
        assert sum(calls) == 23 + 24 + 24

    def test_half_a_file_is_completed(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(activations, "_BATCH_TEXTS", 4)
        monkeypatch.setattr(activations, "_FLUSH_SECONDS", 0.0)
        expected = prepared(folder).vectors(np.arange(24), CPU)
        calls = self.count(monkeypatch)
        lower = Encoder.lower

        def broken(self, *rest):
            if len(calls) == 3:
                raise InterruptedError
            return lower(self, *rest)

        monkeypatch.setattr(Encoder, "lower", broken)
        with pytest.raises(InterruptedError):
            prepared(folder, bench=Workbench(tmp_path))
        monkeypatch.setattr(Encoder, "lower", lower)
        calls.clear()
        found = prepared(folder, bench=Workbench(tmp_path)).vectors(np.arange(24), CPU)
        assert sum(calls) == 24 - 3 * 4
        assert torch.equal(found, expected)

    @pytest.mark.parametrize("harm", ["cut", "gone", "no record", "broken record"])
    def test_a_file_that_is_not_whole_is_computed_again(self, folder, tmp_path, monkeypatch, harm):
        expected = prepared(folder, bench=Workbench(tmp_path)).vectors(ROWS, CPU)
        (kept,), (record,) = tmp_path.glob("*.bin"), tmp_path.glob("*.json")
        if harm == "cut":
            kept.write_bytes(kept.read_bytes()[:-1])
        elif harm == "gone":
            kept.unlink()
        elif harm == "no record":
            record.unlink()
        else:
            record.write_text(json.dumps(["batches"]))
        calls = self.count(monkeypatch)
        found = prepared(folder, bench=Workbench(tmp_path)).vectors(ROWS, CPU)
        assert sum(calls) == 24
        assert torch.equal(found, expected)

    def test_progress_is_told(self, folder, tmp_path):
        told = []
        prepared(folder, bench=Workbench(tmp_path, told.append))
        assert told[-1].done == told[-1].total
        assert "lower layers" in told[-1].note
