"""The bi-encoder member: queries and products as vectors of their own, compared by a small head.

It answers with onnxruntime, tokenizers and numpy; torch is there when it is fitted. What a product
means is computed once, stored, and looked up.
"""

from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError
from models.language.examples import pairs_to_compare
from models.language.metric.options import MetricOptions
from models.language.options import LanguageOptions
from models.language.presets import Pooling, Preset
from models.language.reading.reader import FILES as READER_FILES
from models.language.reading.reader import Reader
from models.language.served_towers import ServedTowers
from models.language.serving.form import Form
from models.language.serving.options import Variant
from models.member import Logits, require_pairs
from models.pairs import LabelledPairs, Pairs, Products, Queries
from models.registry import named_extra
from models.sealed import (
    CURVE,
    FORM,
    TRAINED,
    Sealed,
    Workshop,
    found_whole,
    how_made,
    open_sealed,
    seal,
)
from models.training.identity import training_identity
from models.typed import STRICT, parse, plain
from models.vectors.filling import Tick, fill, unheard
from models.vectors.head import PairHead
from models.vectors.looking_up import Answering, LookingUp
from models.vectors.packing import Packing, Precision, Vectors
from models.vectors.store import ProductVectors
from models.workbench import NO_WORKBENCH, Standing, Workbench

if TYPE_CHECKING:
    from torch import nn

# It rises when a saved member would answer otherwise.
FORMAT: Final = 1
_KIND: Final = "bi_encoder"
_HEAD: Final = "head.npz"
# A head starts from nothing, where a backbone is only to be bent.
_HEAD_RATE: Final = 1e-3


@dataclass(frozen=True)
class BiEncoderOptions(LanguageOptions):
    """The backbone, what it reads, how it is trained, and how its vectors are compared and kept."""

    __pydantic_config__ = STRICT

    pooling: Pooling | None = None  # None: the backbone's preset
    towers: Literal["shared", "twin"] = "shared"  # twin: one network for queries, one for products
    dimensions: int | None = None  # of the vectors, by a learned projection; None: the backbone's
    hidden: int = 128  # numbers in the head's hidden layer; 0 makes it linear
    metric: MetricOptions = field(default_factory=MetricOptions)
    vectors: Precision = "fp16"  # that product vectors are kept in; int8 takes half of it
    # That makes product vectors. They are mostly made once and stored, so fp32, which every engine
    # runs, costs little; int8 is for products that come with the request.
    product_variant: Variant = "fp32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden < 0 or (self.dimensions is not None and self.dimensions < 1):
            raise ConfigError("hidden: expected 0 or more; dimensions: expected 1 or more")
        self.classification.check_undistilled("bi-encoder")
        if self.metric.is_on and self.training.trained_layers == 0 and self.dimensions is None:
            raise ConfigError(
                "a metric loss shapes vectors, and with trained_layers 0 nothing of them learns; "
                "give `dimensions`, whose projection does, or train some layers"
            )

    def modules(self) -> tuple[str, ...]:
        """What the metric loss imports."""
        return self.metric.modules()

    def resolved(self, preset: Preset) -> Self:
        """The same with what was left open taken from the backbone's preset, the head quicker."""
        known = super().resolved(preset)
        rate = self.training.head_learning_rate or _HEAD_RATE
        return replace(known, training=replace(known.training, head_learning_rate=rate))


class BiEncoderMember(LookingUp[ServedTowers]):
    """Query and product as unit vectors through a transformer each, compared into four logits."""

    Options: ClassVar[type[Any]] = BiEncoderOptions

    def __init__(self, name: str = _KIND, options: BiEncoderOptions | None = None) -> None:
        super().__init__(name)
        self.options = options or BiEncoderOptions()

    @named_extra(_KIND, "be fitted")
    def fit(
        self, train: LabelledPairs, valid: LabelledPairs, bench: Workbench = NO_WORKBENCH
    ) -> Self:
        """Train the towers and the head, keeping what is best on `valid`, and export them.

        The export is compared with the trained network on `valid`, or on `train` where that is
        empty. Of several processes that train together the first alone exports, and is fitted.
        """
        # Imported here: what answers must not need them.
        from models.language.metric.fitting import export_towers, train_towers
        from models.language.networks.towers import Towers
        from models.language.starting import started
        from models.training.steps.processes import is_first

        require_pairs(self.name, train)
        self._fitted = None
        count = 1 if self.options.towers == "shared" else 2
        with started(self.options, train, bench, count) as start:
            options, reader = start.options, start.reader
            towers = Towers.starting(
                start.encoders, options.dimensions, options.hidden, options.dropout
            )
        identity = training_identity(
            _KIND, FORMAT, plain(options), start.backbone.sha256, train, valid
        )
        curve = train_towers(
            towers,
            reader,
            train,
            valid,
            training=options.training,
            classification=options.classification,
            metric=options.metric,
            seed=options.seed,
            bench=bench,
            identity=identity,
        )
        if not is_first():
            return self
        workshop = Workshop(self, self.name, bench)
        towers.cpu().eval()
        towers.save(workshop.path / TRAINED)
        for name in towers.named():
            reader.save(workshop.path / TRAINED / name)
        reader.save(workshop.path)
        towers.head.weights().save(workshop.path / _HEAD)
        curve.draw(workshop.path / CURVE)
        bench.report(Standing(1, 1, "exporting"))
        report = export_towers(
            towers,
            reader,
            workshop.path / FORM,
            packing=Packing(options.vectors, towers.product.width),
            product_variant=options.product_variant,
            held_out=pairs_to_compare(train, valid, options.seed),
            options=options.serving,
        )
        made = how_made(
            train=train,
            valid=valid,
            seed=options.seed,
            curve=curve,
            backbone=start.backbone.named(),
            options=plain(options),
            forms={name: plain(form) for name, form in report.forms.items()},
            packing=plain(report.packing),
            served=plain(report.served),
        )
        files = seal(
            workshop.path,
            kind=_KIND,
            format_number=FORMAT,
            name=self.name,
            options=plain(self.options),
            made=made,
        )
        self._fitted = _opened(files, self.options)
        return self

    def predict_logits(self, pairs: Pairs) -> Logits:
        """Four logits per pair; every query and product that `pairs` name is encoded once at most.

        Products come from the vectors given to `with_vectors` where they are known there.
        """
        return self._whole().served.logits(pairs)

    def quickest(self) -> Self:
        """This member, encoding queries by what was measured fastest for one.

        For requests that somebody waits for. What it says then lies within the gate of the export
        from what this member says. Products are encoded as before, for stored vectors fit those.
        """
        self._whole().served.open_quickest()
        return self._but(query_variant=None)

    def similarities(self, pairs: Pairs) -> NDArray[np.float32]:
        """The cosine of query and product of each pair, which a metric loss shapes."""
        return self._whole().served.similarities(pairs)

    @property
    def vector_width(self) -> int:
        """Numbers in a vector."""
        return self._whole().served.packing.width

    def query_vectors(self, queries: Queries) -> Vectors:
        """The unit vector of each query."""
        return self._whole().served.query_vectors(queries)

    def product_vectors(self, products: Products) -> Vectors:
        """The unit vector of each product, as it comes back from where it is packed."""
        served = self._whole().served
        return served.packing.unpack(served.product_vectors(products))

    def precompute(self, products: Products, folder: Path, tick: Tick = unheard) -> ProductVectors:
        """The vectors of `products` in the store in `folder`, with those already there.

        Interrupted, it goes on where it was when called again. A store that is damaged is set
        aside, which the log says, and filled again. `tick` gets products done and all, first of
        those that were there.
        """
        served = self._whole().served
        store = ProductVectors.mended(folder, served.identity, served.packing)
        fill(store, served.encoded_products, products, tick)
        return store

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The member saved in `folder`, which must stay there: variants are opened when needed."""
        files = open_sealed(folder, kind=_KIND, format_number=FORMAT)
        with found_whole(folder, "bi-encoder"):
            options = parse(BiEncoderOptions, files.about["options"])
            member = cls(files.about["name"], options)
            member._fitted = _opened(files, options)
        return member


def _opened(files: Sealed, options: BiEncoderOptions) -> Answering[ServedTowers]:
    """What answers, from a whole folder."""

    def form(name: str) -> Form:
        def trained() -> "nn.Module":
            from models.language.networks.towers import Tower

            return Tower.load(files.path / TRAINED / name)

        return Form.load(files.path / FORM / name, trained=trained)

    names = ("both", "both") if options.towers == "shared" else ("query", "product")
    query_form = form(names[0])
    product_form = query_form if names[0] == names[1] else form(names[1])
    reads = [files.about["files"][name] for name in READER_FILES]
    served = ServedTowers(
        reader=Reader.load(files.path),
        query_form=query_form,
        product_form=product_form,
        packing=Packing(options.vectors, product_form.report.width),
        head=PairHead.load(files.path / _HEAD),
        reader_digest=sha256("".join(reads).encode()).hexdigest(),
        query_variant=query_form.known(options.serving.offline),
        product_variant=options.product_variant,
    )
    return Answering(served, files)
