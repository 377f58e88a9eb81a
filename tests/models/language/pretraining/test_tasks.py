"""The two tasks of pre-training, against the library's own models and by their laws."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForMaskedLM

from models.language.backbones import find_backbone
from models.language.networks.encoder import open_encoder
from models.language.pretraining.contrastive import ContrastiveTask, Views
from models.language.pretraining.head import ARCHITECTURES, MaskedHead
from models.language.pretraining.masked import MaskedModel, MaskedTask
from models.language.pretraining.masking import Vocabulary
from models.language.pretraining.options import ContrastOptions, MaskingOptions
from models.language.pretraining.reading import read_products_alone, read_queries_alone
from models.language.reading.reader import TextOptions
from models.language.reading.sequences import Sequences, padded
from models.language.sources.tokenizer import read_tokenizer
from models.training.loop import train
from models.training.options import TrainingOptions
from models.workbench import Workbench
from tests.tiny import QUERIES, tiny_pairs, tiny_products

TEXTS = [row for _, row, _ in QUERIES] + list(tiny_products().title)
CPU = torch.device("cpu")


def opened(architecture, folder, **text):
    backbone = find_backbone(f"tiny:{architecture}", folder, texts=TEXTS)
    encoder, reader = open_encoder(backbone, TextOptions(max_tokens=96, **text))
    return backbone, encoder, reader


def masked(architecture, folder, **training):
    backbone, encoder, reader = opened(architecture, folder)
    tokenizer, _ = read_tokenizer(backbone.folder)
    examples = read_products_alone(reader, tiny_products())
    measured = read_queries_alone(reader, tiny_pairs().queries.texts)
    rows = len(encoder.word_embeddings)
    counts = torch.from_numpy(np.bincount(examples.ids, minlength=rows)).float()
    task = MaskedTask(
        MaskedModel(encoder, MaskedHead.new(encoder, counts)).eval(),
        examples,
        measured,
        vocabulary=Vocabulary.of(tokenizer, rows),
        pad_id=reader.layout.pad_id,
        batch_size=4,
        options=MaskingOptions(),
    )
    options = {"epochs": 2, "learning_rate": 1e-3, "precision": "fp32"} | training
    return task, TrainingOptions(**options)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES - {"roberta"}))
def test_a_head_in_the_folder_answers_as_the_library_does(architecture, tmp_path):
    backbone = find_backbone(f"tiny:{architecture}", tmp_path, texts=TEXTS)
    theirs = AutoModelForMaskedLM.from_pretrained(backbone.folder).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "embedding" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = tmp_path / "with-head"
    theirs.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((backbone.folder / "tokenizer.json").read_bytes())
    encoder, reader = open_encoder(
        find_backbone(str(folder), tmp_path), TextOptions(max_tokens=96, markers=False)
    )
    head = MaskedHead.of_folder(encoder, folder)
    texts = read_queries_alone(reader, tiny_pairs().queries.texts)
    batch = padded(texts, np.arange(len(texts)), reader.layout.pad_id)
    ids, mask, segments = map(torch.from_numpy, (batch.ids, batch.mask, batch.segments))
    chosen = mask.bool()
    with torch.no_grad():
        ours = MaskedModel(encoder, head).eval()(ids, mask, segments, chosen)
        expected = theirs(input_ids=ids, attention_mask=mask).logits[chosen]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_folder_without_a_head_has_none(tmp_path):
    backbone, encoder, _ = opened("bert", tmp_path)
    assert MaskedHead.of_folder(encoder, backbone.folder) is None


def test_a_new_head_begins_near_how_often_each_token_comes(tmp_path):
    task, _ = masked("bert", tmp_path)
    counts = np.bincount(task._examples.ids, minlength=len(task.module.head.bias)) + 1
    shares = counts / counts.sum()
    logits, truth = task._guessed(task._examples, np.arange(8), CPU, torch.Generator())
    loss = functional.cross_entropy(logits, truth).item()
    by_share = -np.log(shares[truth.numpy()]).mean()
    assert loss == pytest.approx(by_share, abs=1.0)
    assert loss < np.log(len(shares)) + 0.5  # that of a guess in the dark


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES - {"roberta"}))
def test_guessing_words_is_learned_and_reaches_the_word_vectors(architecture, tmp_path):
    task, options = masked(architecture, tmp_path, epochs=15)
    before, table = task.evaluate(CPU), task.module.encoder.word_embeddings.detach().clone()
    assert before == task.evaluate(CPU)  # held-out texts are masked alike every time
    curve = train(task, options, seed=3)
    after = task.evaluate(CPU)
    assert after["perplexity"] < before["perplexity"]
    assert after["score"] == pytest.approx(curve.best["score"])
    assert not torch.equal(table, task.module.encoder.word_embeddings)
    named = {id(p) for group in task.groups() for p in group.parameters}
    assert {id(p) for p in task.module.parameters()} == named


def test_a_training_that_is_killed_goes_on_with_the_same_result(tmp_path):
    class KilledError(Exception):
        pass

    def weights(task):
        return {name: tensor.clone() for name, tensor in task.module.state_dict().items()}

    task, options = masked("bert", tmp_path / "a", checkpoint_seconds=0.0)
    train(task, options, seed=3)
    whole = weights(task)
    told = []

    def stop(standing):
        told.append(standing)
        raise KilledError

    again, _ = masked("bert", tmp_path / "b")
    bench = tmp_path / "bench"
    bench.mkdir()
    measure, again.evaluate = again.evaluate, lambda device: stop(device)
    with pytest.raises(KilledError):  # in its first evaluation, with checkpoints before it
        train(again, options, seed=3, bench=Workbench(bench))
    assert list(bench.iterdir())
    third, _ = masked("bert", tmp_path / "c")
    train(third, options, seed=3, bench=Workbench(bench))
    for name, tensor in weights(third).items():
        assert torch.equal(tensor, whole[name]), name
    assert measure(CPU)


def view_task(folder, temperature=0.05):
    _, encoder, reader = opened("bert", folder, fields=(("title", 32), ("brand", 8), ("colour", 8)))
    products = tiny_products()
    titles = read_queries_alone(reader, products.title)
    others = read_queries_alone(reader, products.brand)
    views = Views.of(titles, others)
    options = ContrastOptions(temperature=temperature)
    task = ContrastiveTask(
        encoder, views, views, pad_id=reader.layout.pad_id, batch_size=6, options=options
    )
    return task, views, reader


def test_texts_that_are_alike_are_no_negatives_of_each_other():
    first = Sequences.of([[1, 2], [3], [1, 2], [4], [5]])
    second = Sequences.of([[6], [7], [8], [7], [3]])
    views = Views.of(first, second)
    gains = views.gains(np.arange(5))
    assert gains.tolist() == [
        [1, -1, 0, -1, -1],  # rows 0 and 2 share a first text
        [-1, 1, -1, 0, 0],  # 1 and 3 a second; the second of 4 is the first of 1
        [0, -1, 1, -1, -1],
        [-1, 0, -1, 1, -1],
        [-1, 0, -1, -1, 1],
    ]
    assert np.array_equal(views.take(np.array([4, 1])).gains(np.arange(2)), [[1, 0], [0, 1]])


def test_the_loss_is_that_of_info_nce_in_both_directions(tmp_path):
    task, views, reader = view_task(tmp_path, temperature=0.2)
    rows = np.array([0, 3, 6])  # three brands and titles
    encoder = task.module.eval()

    def vectors(texts):
        batch = padded(texts, rows, reader.layout.pad_id)
        found = encoder(*map(torch.from_numpy, (batch.ids, batch.mask, batch.segments)))
        return functional.normalize(found, dim=1)

    with torch.no_grad():
        logits = vectors(views.first) @ vectors(views.second).T / 0.2
        target = torch.arange(3)
        expected = (
            functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
        ) / 2
        assert task.loss(rows, CPU).item() == pytest.approx(expected.item(), rel=1e-5)


def test_views_of_one_product_are_brought_together(tmp_path):
    task, _, _ = view_task(tmp_path)
    before = task.evaluate(CPU)
    train(task, TrainingOptions(epochs=15, learning_rate=1e-3, precision="fp32"), seed=3)
    after = task.evaluate(CPU)
    assert after["score"] > before["score"]
    assert after["found_first"] >= before["found_first"]


def test_a_text_and_itself_are_told_apart_by_dropout_alone(tmp_path):
    task, views, reader = view_task(tmp_path)
    same = Views.of(views.first, views.first)
    twins = ContrastiveTask(
        task.module,
        same,
        same,
        pad_id=reader.layout.pad_id,
        batch_size=6,
        options=ContrastOptions(views="dropout"),
    )
    assert twins.evaluate(CPU) == {}  # there is nothing to measure
    torch.manual_seed(0)
    task.module.train()
    loss = twins.loss(np.arange(6), CPU)
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in task.module.parameters())


def test_no_example_is_left_to_itself(tmp_path):
    task, _, _ = view_task(tmp_path)
    task._batch_size = 11  # of 12
    batches = task.batches(0, np.random.default_rng(0))
    assert [len(rows) for rows in batches] == [11]
