"""Trains the towers of a bi-encoder on labelled pairs, and writes the form that answers."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
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
from models.language.serving.halves import halved
from models.language.serving.manifest import FormReport, leave_out
from models.language.serving.options import EXACT, INT8, ServingOptions, Variant
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
    served: dict[str, Gap]  # what answers requests, by the variant that makes query vectors


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

    With two towers each is compared while the other is the trained one, and then all that may
    answer a request together. Vectors that are packed so tightly that labels change are an
    ExportError. Losses that pass one by one and not together cost int8 its place in the form, and
    are an error where float32 makes all vectors; no clock has a say in either.
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
            query_rows=named.query_rows,
        )
    gap = measure_gap(logits(q, p), logits(q, packing.unpack(packing.pack(p))))
    if wrong := complaint(packing.precision, gap, options):
        raise ExportError(
            f"product vectors packed as {wrong}; store them with more precision, or raise the "
            "limits if that is what you want"
        )
    by_queries = "query" if query_tower else "both"
    by_products = "product" if product_tower else "both"
    while True:
        # By onnxruntime, whatever answers here: it is what the variants were measured with.
        opened = {name: Form.load(folder / name, engine="onnxruntime") for name in forms}
        served_towers = ServedTowers(
            reader=reader,
            query_form=opened[by_queries],
            product_form=opened[by_products],
            packing=packing,
            head=head,
            reader_digest="",  # no vectors are stored here
            product_variant=product_variant,
        )
        served = _together(served_towers, named, logits(q, p))
        products_by = opened[by_products].known(product_variant)
        kept = f"{products_by} products and {packing.precision} vectors together"
        refused = {
            variant: why
            for variant, lost in served.items()
            if (why := complaint(f"{variant} queries, {kept}", lost, options))
        }
        if not refused:
            return TowersReport(forms, gap, served)
        if EXACT not in refused:
            at, why = by_queries, refused[INT8]
        elif products_by == INT8:
            at, why = by_products, refused[EXACT]
        else:
            raise ExportError(
                f"{refused[EXACT]}; store product vectors with more precision, or raise the limits "
                "if that is what you want"
            )
        forms[at] = leave_out(folder / at, forms[at], INT8, why)


def _together(towers: ServedTowers, pairs: Pairs, trained: Logits) -> dict[str, Gap]:
    """The gap of all that answers a request, by the variant that makes query vectors.

    Where int8 has a part in it, on the pairs that it did not choose by.
    """
    products = towers.packing.unpack(towers.product_vectors(pairs.products))
    products_by = towers.product_form.known(towers.product_variant)
    judging = halved(pairs.query_rows).judging
    gaps = {}
    for variant in towers.query_form.variants:
        queries = replace(towers, query_variant=variant).query_vectors(pairs.queries)
        served = towers.head.logits(queries, products, pairs.query_rows, pairs.product_rows)
        rows = judging if INT8 in (variant, products_by) else np.arange(len(pairs))
        gaps[variant] = measure_gap(trained[rows], served[rows])
    return gaps


def _query_texts(reader: Reader, pairs: Pairs) -> Sequences:
    return reader.alone(reader.read_queries(pairs.queries.texts))


def _product_texts(reader: Reader, pairs: Pairs) -> Sequences:
    return reader.alone(reader.read_products(pairs.products))
