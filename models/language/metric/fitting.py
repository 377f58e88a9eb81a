"""Trains the towers of a bi-encoder on labelled pairs, and writes the form that answers."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.errors import ExportError
from models.language.metric.options import MetricOptions
from models.language.metric.task import BiEncoderTask
from models.language.networks.towers import Tower, Towers
from models.language.reading.reader import Reader
from models.language.reading.sequences import Sequences
from models.language.served_towers import ServedTowers
from models.language.serving.batches import Run, run_batches
from models.language.serving.export import export_form
from models.language.serving.form import Form
from models.language.serving.gate import Gap, complaint, measure_gap
from models.language.serving.manifest import FormReport
from models.language.serving.options import ServingOptions, Variant
from models.language.serving.torch_engine import TorchSession
from models.language.training.activations import EncodedTexts
from models.member import Logits
from models.pairs import LabelledPairs, Pairs
from models.training.curve import Curve
from models.training.loop import train as run_training
from models.training.options import ClassificationOptions, TrainingOptions
from models.vectors.packing import Packing, Vectors
from models.workbench import Workbench


def train_towers(
    towers: Towers,
    reader: Reader,
    train: LabelledPairs,
    valid: LabelledPairs,
    *,
    training: TrainingOptions,
    classification: ClassificationOptions,
    metric: MetricOptions,
    seed: int,
    bench: Workbench,
    identity: str,
) -> Curve:
    """Train `towers` in place; returns the curve, with notes.

    Every distinct query and product is tokenised once, and where lower layers are frozen runs
    through those once.
    """
    train, valid = train.compact(), valid.compact()
    queries, products = (
        EncodedTexts.prepare(
            tower.encoder,
            read(reader, train).followed_by(read(reader, valid)),
            reader.layout.pad_id,
            training,
            bench,
        )
        for tower, read in ((towers.query, _query_texts), (towers.product, _product_texts))
    )
    task = BiEncoderTask(
        towers, queries, products, train, valid, classification, metric, training.batch_size
    )
    del train, valid  # a copy of their texts, which nobody reads any more
    curve = run_training(task, training, seed, bench, identity)
    notes = dict.fromkeys([*curve.notes, queries.note, products.note])
    return replace(curve, notes=tuple(filter(None, notes)))


@dataclass(frozen=True)
class TowersReport:
    """What was exported of each tower, and what is lost by packing, and by all together."""

    forms: dict[str, FormReport]
    packing: Gap
    served: Gap  # what answers requests, against the trained towers


def export_towers(
    towers: Towers,
    reader: Reader,
    folder: Path,
    *,
    packing: Packing,
    product_variant: Variant,
    held_out: Pairs,
    options: ServingOptions,
) -> TowersReport:
    """Write the form of each tower into `folder`, compared on the logits of `held_out` pairs.

    With two towers each is compared while the other is the trained one, and then all that answers
    a request together. Vectors that are packed so tightly that labels change are an ExportError,
    and so are losses that pass one by one and not together.
    """
    named = held_out.compact()
    queries, products = _query_texts(reader, named), _product_texts(reader, named)
    head, pad_id = towers.head.weights(), reader.layout.pad_id

    def logits(of_queries: Vectors, of_products: Vectors) -> Logits:
        return head.logits(of_queries, of_products, named.query_rows, named.product_rows)

    merged = {name: tower.merged() for name, tower in towers.named().items()}

    def trained(tower: Tower, texts: Sequences) -> Vectors:
        session = TorchSession(tower, torch.device("cpu"))
        return run_batches(
            session, texts, width=tower.width, pad_id=pad_id, batch_tokens=options.batch_tokens
        )

    query_tower, product_tower = merged.get("query"), merged.get("product")
    q = trained(query_tower or merged["both"], queries)
    p = trained(product_tower or merged["both"], products)

    def by_both(run: Run) -> Logits:
        return logits(run(queries), run(products))

    def by_query(run: Run) -> Logits:
        return logits(run(queries), p)

    def by_product(run: Run) -> Logits:
        return logits(q, run(products))

    plans = {
        "both": (queries.followed_by(products), by_both),
        "query": (queries, by_query),
        "product": (products, by_product),
    }
    forms = {}
    for name, tower in merged.items():
        sample, answers = plans[name]
        forms[name] = export_form(
            tower,
            folder / name,
            sample=sample,
            pad_id=pad_id,
            takes_segments=False,  # a text alone is all of segment 0
            options=options,
            answers=answers,
        )
    gap = measure_gap(logits(q, p), logits(q, packing.unpack(packing.pack(p))))
    if wrong := complaint(packing.precision, gap, options):
        raise ExportError(
            f"product vectors packed as {wrong}; store them with more precision, or raise the "
            "limits if that is what you want"
        )
    # By onnxruntime, whatever answers here: it is what the variants were measured with.
    opened = {name: Form.load(folder / name, engine="onnxruntime") for name in forms}
    towers_served = ServedTowers(
        reader=reader,
        query_form=opened["query" if query_tower else "both"],
        product_form=opened["product" if product_tower else "both"],
        packing=packing,
        head=head,
        reader_digest="",  # no vectors are stored here
        product_variant=product_variant,
    )
    served = measure_gap(logits(q, p), towers_served.logits(named))
    if wrong := complaint("networks and packing together", served, options):
        raise ExportError(
            f"{wrong}; store product vectors with more precision, leave int8 out of the variants, "
            "or raise the limits if that is what you want"
        )
    return TowersReport(forms, gap, served)


def _query_texts(reader: Reader, pairs: Pairs) -> Sequences:
    return reader.alone(reader.read_queries(pairs.queries.texts))


def _product_texts(reader: Reader, pairs: Pairs) -> Sequences:
    return reader.alone(reader.read_products(pairs.products))
