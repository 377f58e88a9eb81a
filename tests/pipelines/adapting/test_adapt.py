"""A backbone adapted to the demo catalogue: what it learns from, what it writes, how it resumes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from models.errors import ConfigError, DataError, EsciError, MissingDataError
from models.files import read_json
from models.language.backbones import find_backbone
from models.language.networks.encoder import open_encoder
from models.language.pretraining.options import ContrastOptions
from models.language.reading.reader import TextOptions
from models.language.tiny import write_tiny
from models.text import fold
from models.training.options import TrainingOptions
from models.typed import parse
from pipelines.adapting import adapt as adapting
from pipelines.adapting.adapt import Adapted, adapt
from pipelines.adapting.config import ENVIRONMENT_PREFIX, AdaptConfig
from pipelines.adapting.texts import gather_texts, read_query_log
from pipelines.config import TrainConfig, read_config
from pipelines.dataset.read import read_judgements
from pipelines.demo.generate import generate
from pipelines.demo.options import DemoOptions
from pipelines.training.sides import sides
from tests.gpu import needs_gpu, using_gpu

ROOT = Path(__file__).parents[3]
TITLES = TextOptions(max_tokens=64, fields=(("title", 24), ("brand", 6)))
TRAINING = TrainingOptions(
    epochs=2, learning_rate=1e-3, batch_size=32, evaluations_per_epoch=1, precision="fp32"
)


def config(objective="mlm", architecture="bert", **keys):
    keys = {"text": TITLES, "training": TRAINING} | keys
    return AdaptConfig(backbone=f"tiny:{architecture}", objective=objective, **keys)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "demo"
    generate(folder, DemoOptions(products=300))
    return folder


@pytest.fixture(scope="module")
def adapted(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted") / "bert"
    return folder, adapt(data, folder, config(), threads=1)


def folded(texts):
    return {fold(text) for text in texts}


def queries_of(data, rows):
    pairs = read_judgements(data).take(rows).pairs
    return folded(pairs.queries.texts.take(np.unique(pairs.query_rows)))


def test_no_query_of_the_test_split_and_none_to_choose_on_is_learned_from(data):
    texts = gather_texts(data, None, AdaptConfig())
    found = sides(read_judgements(data), TrainConfig())
    taught = folded(texts.queries)
    assert taught == queries_of(data, found.train)
    assert folded(texts.measured_queries) == queries_of(data, found.validation)
    assert not taught & queries_of(data, found.test)
    assert len(texts.queries) == len(taught)


def test_a_query_log_is_learned_from_but_for_what_is_measured_on(data, tmp_path):
    measured = list(gather_texts(data, None, AdaptConfig()).measured_queries)
    log = tmp_path / "log.txt"
    log.write_text("\n".join(["a new query", "", "A NEW query", measured[0].upper()]))
    found = list(gather_texts(data, log, AdaptConfig()).queries)
    assert found.count("a new query") == 1
    assert not folded(found) & folded(measured)


def test_a_query_log_is_parquet_or_text(data, tmp_path):
    assert len(read_query_log(data / "behaviours.parquet")) > 10
    (tmp_path / "log.tsv").write_bytes(b"\xff\xfe")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "log.parquet")
    (tmp_path / "torn.parquet").write_text("PAR1")
    with pytest.raises(DataError, match="no text in UTF-8"):
        read_query_log(tmp_path / "log.tsv")
    with pytest.raises(DataError, match="no column 'query'; it has text"):
        read_query_log(tmp_path / "log.parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_query_log(tmp_path / "torn.parquet")
    with pytest.raises(MissingDataError, match="is no file"):
        read_query_log(tmp_path / "none.txt")


def test_measured_products_share_no_title_with_those_that_teach(data):
    texts = gather_texts(data, None, AdaptConfig(measured_products=20))
    assert 0 < len(texts.measured_products) <= 20
    assert not folded(texts.measured_products.title) & folded(texts.products.title)
    other = gather_texts(data, None, AdaptConfig(measured_products=20, seed=8))
    assert list(other.measured_products.ids) != list(texts.measured_products.ids)


def test_locales_choose_products_and_queries(data):
    found = gather_texts(data, None, AdaptConfig(locales=["es"]))
    assert {found.products.locale(row) for row in range(len(found.products))} == {"es"}
    everything = gather_texts(data, None, AdaptConfig())
    assert 0 < len(found.queries) < len(everything.queries)


def test_the_folder_is_a_backbone_like_any_other(adapted, tmp_path):
    folder, _ = adapted
    backbone = find_backbone(str(folder), tmp_path)
    # A member that starts from it trains as it would from what it was made from.
    assert backbone.preset.learning_rate == 1e-3
    text = TextOptions(max_tokens=64, fields=(("title", 24), ("brand", 6), ("colour", 6)))
    encoder, reader = open_encoder(backbone, text)
    theirs = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    # Markers that were trained are found again at their places, and a third is added behind them.
    markers = reader.layout.markers
    assert {name: vocabulary.get(f"[P_{name.upper()}]") for name in ("title", "brand")} == {
        name: markers[name] for name in ("title", "brand")
    }
    table = theirs.get_input_embeddings().weight
    assert torch.equal(encoder.word_embeddings[: len(table)], table)
    assert markers["colour"] == len(table)


@needs_gpu
def test_a_gpu_fills_masks_in_bf16_and_what_it_learned_is_written(data, tmp_path, monkeypatch):
    trained, write = [], adapting._write

    def watched(folder, curve, encoder, *rest):
        trained.append(encoder)
        write(folder, curve, encoder, *rest)

    monkeypatch.setattr(adapting, "_write", watched)
    with using_gpu():
        asked = config(training=replace(TRAINING, precision="bf16"))
        said = adapt(data, tmp_path / "out", asked, threads=1)
    assert said.after["perplexity"] < said.before["perplexity"]
    again, _ = open_encoder(find_backbone(str(tmp_path / "out"), tmp_path), TITLES)
    for name, tensor in trained[0].state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)  # in single precision


def test_it_says_how_it_was_made(adapted, data):
    folder, said = adapted
    assert parse(Adapted, read_json(folder / "adapted.json")) == said
    assert said.backbone["name"] == "tiny:bert"
    assert said.config.training.learning_rate == 1e-3
    assert said.config.training.head_learning_rate == 1e-3  # a new head has the most to learn
    assert said.texts["products"] + said.texts["measured products"] == 300
    assert said.head == "new"
    assert said.after["perplexity"] < said.before["perplexity"]
    assert said.curve["points"]
    assert "<svg" in (folder / "curve.svg").read_text()
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors", ".svg"}
    assert not list(folder.parent.glob(".*"))


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "qwen2"])
def test_views_of_a_product_are_brought_together(data, tmp_path, architecture):
    # The second has no dropout and the third reads from left to right, by adapters.
    out = tmp_path / "out"
    lora = architecture == "qwen2"
    found = adapt(data, out, config("contrastive", architecture, lora=lora), threads=1)
    assert found.after["score"] > found.before["score"]
    assert find_backbone(str(out), tmp_path).preset.pooling == (
        "last" if architecture == "qwen2" else "cls"
    )
    assert found.head is None


def test_a_decoder_has_no_masks_to_fill(data, tmp_path):
    with pytest.raises(ConfigError, match="no head that fills masks is known for a qwen2"):
        adapt(data, tmp_path / "out", config("mlm", "qwen2"), threads=1)
    assert list(tmp_path.iterdir()) == []


def test_dropout_views_need_dropout(data, tmp_path):
    wrong = config("contrastive", "modernbert", contrast=ContrastOptions(views="dropout"))
    with pytest.raises(DataError, match="a backbone with dropout"):
        adapt(data, tmp_path / "out", wrong, threads=1)


def test_only_the_top_layers_are_adapted_where_so_asked(data, tmp_path):
    training = TrainingOptions(
        epochs=1, learning_rate=1e-3, batch_size=32, trained_layers=1, precision="fp32"
    )
    adapt(data, tmp_path / "out", config(training=training), threads=1)
    texts = gather_texts(data, None, config())
    start = find_backbone("tiny:bert", tmp_path / "start", texts=texts.all_texts())
    before, _ = open_encoder(start, TITLES)
    after, _ = open_encoder(find_backbone(str(tmp_path / "out"), tmp_path), TITLES)
    same = {
        name: torch.equal(tensor, after.state_dict()[name])
        for name, tensor in before.state_dict().items()
    }
    assert all(same[name] for name in same if "embeddings" in name or "layer.0" in name)
    assert not any(same[name] for name in same if "layer.1" in name and "weight" in name)


def test_more_layers_than_there_are_cannot_be_trained(data, tmp_path):
    training = TrainingOptions(batch_size=32, trained_layers=3)
    with pytest.raises(ConfigError, match="trained_layers 3 of a backbone that has 2"):
        adapt(data, tmp_path / "out", config(training=training), threads=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"text": TextOptions(max_tokens=4000)}, "max_tokens 4000 for backbone .*at most 256"),
        ({"training": TrainingOptions(trained_layers=3)}, "trained_layers 3 of a backbone"),
        ({"backbone": "nowhere"}, "nowhere"),
    ],
)
def test_what_a_backbone_cannot_do_is_said_before_the_catalogue_is_read(
    data, adapted, tmp_path, monkeypatch, wrong, message
):
    monkeypatch.setattr(adapting, "gather_texts", lambda *_: pytest.fail("read the catalogue"))
    asked = replace(config(), backbone=str(adapted[0]))
    with pytest.raises(EsciError, match=message):
        adapt(data, tmp_path / "out", replace(asked, **wrong), threads=1)


@pytest.mark.slow
def test_after_a_kill_the_same_command_goes_on_with_the_same_result(data, tmp_path):
    def command(out):
        words = ["adapt", "--data", str(data), "--out", str(out), "--backbone", "tiny"]
        keys = ["training.epochs=2", "training.checkpoint_seconds=0.3", "training.precision=fp32"]
        keys += ["text.max_tokens=64", 'text.fields=[["title",24]]', "training.batch_size=16"]
        sets = [word for key in keys for word in ("--set", key)]
        return [sys.executable, "-m", "esci", *words, *sets, "--threads", "1", "--json"]

    out = tmp_path / "killed"
    running = subprocess.Popen(command(out), cwd=ROOT, stdout=subprocess.DEVNULL)
    bench = tmp_path / ".killed.work" / "benches" / "adapting" / "bench"
    until = time.monotonic() + 120
    while not list(bench.glob("*.safetensors")) and time.monotonic() < until:
        time.sleep(0.02)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert not out.exists()
    again = subprocess.run(command(out), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    document = json.loads(again.stdout)
    assert document["folder"] == str(out)
    whole = parse(AdaptConfig, read_json(out / "adapted.json")["config"])
    adapt(data, tmp_path / "whole", whole, threads=1)
    for name in ("model.safetensors", "adapted.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not list(tmp_path.glob(".*"))


def test_what_was_begun_is_gone_on_with_unless_something_that_decides_it_is_changed(
    data, tmp_path, monkeypatch
):
    start = write_tiny(tmp_path / "start", "bert")
    found = []

    def interrupted(_task, _options, _seed, bench, _identity):
        found.append(any(bench.folder.iterdir()))
        (bench.folder / "checkpoint").write_text("")
        raise KeyboardInterrupt

    def begin(**changes):
        training = replace(TRAINING, **changes.pop("training", {}))
        made = replace(config(training=training), backbone=str(start), **changes)
        with pytest.raises(KeyboardInterrupt):
            adapt(data, tmp_path / "out", made, threads=1)
        return found[-1]

    monkeypatch.setattr("pipelines.adapting.adapt.train", interrupted)
    assert not begin()
    assert begin(training={"checkpoint_seconds": 7.0, "cache_megabytes": 9})
    assert begin(allow_download=True)
    assert not begin(training={"batch_size": 8})
    write_tiny(start, "bert", seed=8)  # another, at the same place
    assert not begin(training={"batch_size": 8})


def test_nothing_but_an_adapted_backbone_is_replaced_and_that_on_demand(adapted, data, tmp_path):
    folder, _ = adapted
    # What it wrote itself is all it holds: only `force` is missing.
    with pytest.raises(ConfigError, match="is there already"):
        adapt(data, folder, config())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="something else than an adapted backbone"):
        adapt(data, tmp_path / "mine", config(), force=True)


@pytest.mark.parametrize("foreign", ["mine.json", "mine.safetensors", "mine/notes.txt"])
def test_a_file_of_somebody_else_is_not_replaced(adapted, data, tmp_path, foreign):
    out = tmp_path / "out"
    shutil.copytree(adapted[0], out)
    (out / foreign).parent.mkdir(exist_ok=True)
    (out / foreign).write_text("mine")
    with pytest.raises(ConfigError, match="something else than an adapted backbone"):
        adapt(data, out, config(), force=True)
    assert (out / foreign).read_text() == "mine"


def test_keys_come_from_file_environment_and_flag(tmp_path):
    path = tmp_path / "adapt.toml"
    path.write_text('seed = 1\n[training]\nbatch_size = 16\n[text]\nfields = [["title", 9]]')
    found = read_config(
        AdaptConfig,
        ENVIRONMENT_PREFIX,
        path,
        ["training.max_steps=5"],
        {"ESCI_ADAPT__MASKING__SHARE": "0.3"},
    )
    assert (found.seed, found.training.batch_size, found.training.max_steps) == (1, 16, 5)
    assert found.training.evaluations_per_epoch == AdaptConfig().training.evaluations_per_epoch
    assert found.masking.share == 0.3
    assert found.text.fields == (("title", 9),)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("objective=nsp", "objective: "),
        ("trainin.epochs=1", "unknown key; known keys: backbone.*training: epochs"),
        ("validation=0", "found validation 0"),
        ("seed=-1", "found seed -1"),
        ("measured_products=0", "found measured_products 0"),
        ("training.trained_layers=0", "leaves the backbone as it is"),
        ("masking.share=2", "share 2"),
    ],
)
def test_what_cannot_be_meant_is_refused(key, message):
    with pytest.raises(ConfigError, match=message):
        read_config(AdaptConfig, ENVIRONMENT_PREFIX, None, [key], {})


def test_views_by_fields_need_two_fields():
    with pytest.raises(ConfigError, match="expected title and at least one other"):
        AdaptConfig(objective="contrastive", text=TextOptions(fields=(("title", 20),)))


def test_the_help_loads_no_torch():
    code = (
        "import sys, esci\ntry:\n    esci.build(['adapt'])(['adapt', '--help'])\n"
        "except SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "never those of the test split" in " ".join(done.stdout.split())
