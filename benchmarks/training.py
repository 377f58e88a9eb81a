"""Training a cross-encoder, ours against the plain Trainer of Hugging Face.

    python -m benchmarks.training [--pairs N] [--epochs N] [--layers K] [--repeats N] [--bf16]

Both sides start from all-MiniLM-L6-v2 with the same head, read the same token ids, and take as many
steps of the same size with the same optimiser and schedule; neither looks at the validation queries
until it has ended. All layers learn first, then the top K: the Trainer runs the lower ones at every
step, ours once. Every training is a process of its own, and the ways take turns. Each repeat has
a seed of its own, so that the range of the scores says how much of a difference is luck.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process import peak_mebibytes, run_module

DATASET = Path("../shared/data/esci_real")
THREADS, BATCH, RATE, SEED = 2, 32, 5e-5, 7
WAYS = ("Trainer", "Trainer, grouped by length", "ours")


def prepared(dataset: Path, most: int) -> Any:
    """Training pairs (at most `most`), validation pairs, and a reader's options."""
    from models.language.reading.reader import TextOptions
    from pipelines.dataset.read import read_judgements
    from pipelines.split import held_out, official_split

    judgements = read_judgements(dataset)
    pairs = judgements.take(official_split(judgements).train).pairs
    held = held_out(pairs, 0.15, SEED)
    train = np.flatnonzero(~held)
    if most < len(train):
        train = np.sort(np.random.default_rng(SEED).permutation(train)[:most])
    return pairs.take(train), pairs.take(np.flatnonzero(held)), TextOptions(markers=False)


def network_and_reader(text: Any, seed: int) -> Any:
    """The untrained cross-encoder, with the same weights in every process of this seed."""
    import torch

    from models.language.backbones import find_backbone
    from models.language.networks.cross import CrossNetwork
    from models.language.networks.encoder import open_encoder

    with tempfile.TemporaryDirectory() as scratch:
        backbone = find_backbone("minilm", Path(scratch))
        torch.manual_seed(seed)
        encoder, reader = open_encoder(backbone, text, pooling="cls")
    return CrossNetwork(encoder, 0.1), reader


def train_ours(network: Any, reader: Any, train: Any, options: argparse.Namespace) -> None:
    """By the project's loop."""
    from models.language.training.pair_classifier import train_on_pairs
    from models.training.options import ClassificationOptions, TrainingOptions
    from models.workbench import NO_WORKBENCH

    training = TrainingOptions(
        epochs=options.epochs,
        batch_size=BATCH,
        learning_rate=RATE,
        trained_layers=options.layers,
        precision="bf16" if options.bf16 else "fp32",
    )
    nothing = train.take(np.arange(0))
    train_on_pairs(
        network,
        reader,
        train,
        nothing,
        training=training,
        classification=ClassificationOptions(),
        seed=options.seed,
        bench=NO_WORKBENCH,
        identity="benchmark",
    )


def train_theirs(network: Any, reader: Any, train: Any, options: argparse.Namespace) -> None:
    """By the Trainer, with what it does unasked; batches are padded to their longest."""
    import torch
    from torch import nn
    from transformers import PrinterCallback, Trainer, TrainingArguments

    sequences = reader.read_pairs(train)
    examples = [
        {
            "ids": sequences.ids[start:stop].astype(np.int64),
            "segments": sequences.segments[start:stop].astype(np.int64),
            "input_ids": range(stop - start),  # whose length is what it groups by
            "label": int(label),
        }
        for start, stop, label in zip(
            sequences.starts[:-1], sequences.starts[1:], train.labels, strict=True
        )
    ]

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [torch.from_numpy(example["ids"]) for example in batch]
        segments = [torch.from_numpy(example["segments"]) for example in batch]
        pad = nn.utils.rnn.pad_sequence
        ids = pad(rows, batch_first=True, padding_value=reader.layout.pad_id)
        mask = pad([torch.ones_like(row) for row in rows], batch_first=True)
        labels = torch.tensor([example["label"] for example in batch])
        return {
            "ids": ids, "mask": mask, "segments": pad(segments, batch_first=True), "labels": labels
        }  # fmt: skip

    class WithLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: Any, mask: Any, segments: Any, labels: Any) -> dict[str, Any]:
            logits = self.network(ids, mask, segments)
            return {"loss": nn.functional.cross_entropy(logits.float(), labels), "logits": logits}

    if options.layers is not None:
        network.encoder.freeze_below(network.encoder.n_layers - options.layers)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=BATCH,
            num_train_epochs=options.epochs,
            learning_rate=RATE,
            weight_decay=0.01,
            warmup_steps=0.1,
            lr_scheduler_type="linear",
            seed=options.seed,
            use_cpu=True,
            bf16=options.bf16,
            train_sampling_strategy="group_by_length" if "grouped" in options.way else "random",
            remove_unused_columns=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=WithLoss(), args=arguments, train_dataset=examples, data_collator=collate
        )
        trainer.remove_callback(PrinterCallback)  # standard output is for the result
        trainer.train()


def one(options: argparse.Namespace) -> None:
    """Train one way and print seconds, memory and scores as JSON."""
    import json

    import torch

    from models.language.training.activations import EncodedTexts
    from models.language.training.pair_task import answer
    from models.training.classification import classification_metrics
    from models.training.options import ClassificationOptions, TrainingOptions

    torch.set_num_threads(THREADS)
    train, valid, text = prepared(options.dataset, options.pairs)
    network, reader = network_and_reader(text, options.seed)
    work = train_ours if options.way == "ours" else train_theirs
    started = time.perf_counter()
    work(network, reader, train, options)
    seconds = time.perf_counter() - started
    network.cpu().eval()
    texts = EncodedTexts.prepare(
        network.encoder, reader.read_pairs(valid), reader.layout.pad_id, TrainingOptions()
    )
    logits = answer(network, texts, np.arange(len(valid)), torch.device("cpu"))
    found = classification_metrics(logits, valid.labels, ClassificationOptions())
    likeliest = np.zeros_like(logits)
    likeliest[:, np.bincount(train.labels).argmax()] = 1
    majority = classification_metrics(likeliest, valid.labels, ClassificationOptions())
    json.dump(
        {"seconds": seconds, "pairs": len(train), "valid": len(valid), "majority": majority,
         "memory": peak_mebibytes(), **found},
        sys.stdout,
    )  # fmt: skip


def ranged(runs: list[dict[str, Any]], score: str) -> str:
    """The median of a score, with its least and most."""
    scores = sorted(run[score] for run in runs)
    return f"{statistics.median(scores):.3f} ({scores[0]:.3f} to {scores[-1]:.3f})"


def report(options: argparse.Namespace) -> None:
    """Run all ways in turn and print a table."""
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}; ")
    print(f"{options.epochs} epochs, medians of {options.repeats}.\n")
    print("| layers that learn | way | pairs/s | ours ÷ this | peak MiB | accuracy | macro-F1 |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for layers in options.layers_of:
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for repeat in range(options.repeats):
            for way in WAYS:
                words = ["--one", "--way", way, "--dataset", options.dataset]
                words += ["--pairs", options.pairs, "--epochs", options.epochs]
                words += ["--seed", SEED + repeat]
                words += ["--layers", layers] if layers is not None else []
                words += ["--bf16"] if options.bf16 else []
                threads = {"OMP_NUM_THREADS": str(THREADS)}
                found[way].append(run_module("benchmarks.training", *words, **threads))
                print(way, layers, found[way][-1], file=sys.stderr, flush=True)
        for way, runs in found.items():
            ratios = [a["seconds"] / b["seconds"] for a, b in zip(runs, found["ours"], strict=True)]
            seconds = statistics.median(run["seconds"] for run in runs)
            last = runs[-1]
            print(
                f"| {'all' if layers is None else f'top {layers}'} | {way} "
                f"| {last['pairs'] * options.epochs / seconds:.1f} "
                f"| {statistics.median(ratios):.2f} | {last['memory']:.0f} "
                f"| {ranged(runs, 'accuracy')} | {ranged(runs, 'macro_f1')} |",
                flush=True,
            )
    majority = last["majority"]
    print(
        f"\nScores on {last['valid']:,} validation pairs, the median and the range of the seeds; "
        f"majority {majority['accuracy']:.3f} and {majority['macro_f1']:.3f}."
    )


def main() -> None:
    """Compare, or be one of those that are compared."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, default=DATASET)
    parser.add_argument("--pairs", type=int, default=2048, help="training pairs (default 2048)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="on both sides, by autocast")
    parser.add_argument("--layers", type=int, help="only the top K; else all, then the top two")
    parser.add_argument("--seed", type=int, default=SEED, help=argparse.SUPPRESS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, default="ours", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.dataset.is_dir():
        sys.exit(f"{options.dataset} is not there; name a folder in ESCI's layout with --dataset")
    if options.one:
        one(options)
    else:
        options.layers_of = [None, 2] if options.layers is None else [options.layers]
        report(options)


if __name__ == "__main__":
    main()
