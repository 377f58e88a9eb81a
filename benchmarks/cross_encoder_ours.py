"""Our export of a Hugging Face cross-encoder as a worker of `benchmarks.language_serving`.

    python -m benchmarks.cross_encoder_ours WAY MODEL DATASET REQUESTS THREADS

It says "ready", then answers every line "shape number" by one line of JSON: seconds, logits, and
what tokenising and padding took. Requests are drawn here, the same ones for a number of them.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.language.reading.reader import Reader, TextOptions, layout_of
from models.language.serving.batches import plan
from models.language.serving.form import Form
from models.language.serving.manifest import read_manifest
from models.language.serving.options import EXACT, INT8, ServingOptions
from models.pairs import LabelledPairs, Pairs
from models.text import normalise

SHAPES: Final = (1, 16, 40, 128)
TRAINED, HELD_OUT = 6000, 2000  # pairs of the training side
MOST_TOKENS: Final = 128
FORM: Final = "esci-form"
# Engine, and the variant; None for what was measured fastest.
OURS: Final[dict[str, tuple[str, str | None]]] = {
    "ours": ("onnxruntime", None),
    "ours, float32": ("onnxruntime", EXACT),
    "ours, int8": ("onnxruntime", INT8),
    "ours, int8 whatever the doubt": ("onnxruntime", INT8),
    "ours, OpenVINO": ("openvino", None),
}
# Budgets of the whole, so that both sides cut at the same token: the last of it.
TEXT: Final = TextOptions(
    max_tokens=MOST_TOKENS,
    query_tokens=64,
    fields=tuple(
        (name, MOST_TOKENS) for name in ("title", "brand", "colour", "bullets", "description")
    ),
    markers=False,
)


def reader_of(model: Path) -> Reader:
    """The reader of a model's folder, which reads as its tokenizer does two joined texts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
    return Reader(tokenizer, layout_of(tokenizer, TEXT, {}))


def network_of(model: Path) -> Any:
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


def judged_pairs(dataset: Path, split: int) -> LabelledPairs:
    """The judged pairs of one side of the dataset."""
    from pipelines.dataset.read import read_judgements

    judgements = read_judgements(dataset)
    return judgements.take(np.flatnonzero(judgements.splits == split)).pairs


def training_pairs(dataset: Path) -> tuple[LabelledPairs, LabelledPairs]:
    """Pairs to train a model on, and others to judge its export by, none of them test pairs."""
    pairs = judged_pairs(dataset, 0)
    order = np.random.default_rng(7).permutation(len(pairs))
    return pairs.take(order[:TRAINED]), pairs.take(order[TRAINED : TRAINED + HELD_OUT])


def export(model: Path, dataset: Path, threads: int) -> None:
    """Write our form of the model beside it, as a member's is written."""
    from models.language.serving.export import export_form

    reader = reader_of(model)
    compared = training_pairs(dataset)[1]
    held_out = reader.read_pairs(compared)
    export_form(
        network_of(model),
        model / FORM,
        sample=held_out,
        pad_id=reader.layout.pad_id,
        takes_segments=True,
        options=ServingOptions(threads=threads),
        answers=lambda run: run(held_out),
        query_rows=compared.query_rows,
        rows_are_logits=True,
    )
    reader.save(model / FORM)


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
    return [
        (
            normalise(query),
            " ".join(filter(None, (normalise(texts[name]) for name, _ in TEXT.fields))),
        )
        for query, texts in pairs.texts()
    ]


def open_form(way: str, model: Path, threads: int) -> tuple[Form, str | None]:
    """The form that answers `way`, and the variant to ask it for."""
    engine, variant = OURS[way]
    folder = model / FORM
    report = read_manifest(folder)
    if way.endswith("whatever the doubt"):
        variants = {name: replace(about, doubt=0.0) for name, about in report.variants.items()}
        report = replace(report, variants=variants)
    return Form(folder, report, engine=engine, threads=threads), variant


def main() -> None:
    """Answer requests until the input ends."""
    way, model, dataset = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    count, threads = map(int, sys.argv[4:6])
    reader = Reader.load(model / FORM)
    form, variant = open_form(way, model, threads)
    asked = requests(dataset, count)
    print("ready", flush=True)
    for line in sys.stdin:
        shape, number = map(int, line.split())
        started, worked = time.perf_counter(), time.process_time()
        texts = reader.read_pairs(asked[shape][number])
        read = time.perf_counter()
        logits = form.run(texts, variant)
        ended, rested = time.perf_counter(), time.process_time()
        lengths = texts.lengths()
        batches = plan(texts, form.report.batch_tokens, threads)
        answer = {
            "seconds": ended - started,
            "processor": rested - worked,
            "reading": read - started,
            "tokens": int(lengths.sum()),
            "padded": int(sum(lengths[rows].max() * len(rows) for rows in batches)),
            "logits": logits.tolist(),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
