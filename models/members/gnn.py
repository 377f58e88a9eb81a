"""The graph member: what customers did tells what a product is to a query, beyond its words.

A convolution over one relation, or over several, turns each product into a state that holds its
neighbourhood; a small head compares it with the state of a query. It answers with numpy, and with
a bi-encoder's engine where it starts from one; torch is there when it is fitted.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError, DataError
from models.files import atomic_file, file_sha256
from models.graphs.building import FeaturedGraph, build_graphs, hidden_queries
from models.graphs.channels import Merging, open_channels, save_channels
from models.graphs.features.encoded import FOLDER, EncodedText, Teachers, teachers
from models.graphs.features.hashed import HashedText
from models.graphs.features.source import FeatureSource
from models.graphs.options import GraphOptions, relation_names
from models.graphs.sampling.neighbourhoods import Hearing, Neighbourhoods
from models.graphs.sampling.sampler import By, Draw
from models.graphs.serving.convolutions import Convolution, ServedNetwork
from models.graphs.serving.explanation import Explanation, explain
from models.graphs.serving.served import Cold, ServedGraphs
from models.graphs.sharing import Arrays, Sharing
from models.locales import LOCALES, Locale
from models.member import Logits, require_pairs
from models.needs import Needs
from models.pairs import LabelledPairs, Pairs, Products
from models.registry import named_extra
from models.saved_member import ABOUT
from models.sealed import CURVE, Sealed, Workshop, found_whole, how_made, open_sealed, seal
from models.states.protocol import Digests
from models.surroundings import Surroundings
from models.text import fold
from models.training.identity import training_identity
from models.training.options import ClassificationOptions, TrainingOptions
from models.typed import STRICT, parse, plain
from models.vectors.head import PairHead
from models.vectors.looking_up import Answering, LookingUp
from models.vectors.packing import Packed, Packing
from models.workbench import NO_WORKBENCH, Workbench

log = logging.getLogger(__name__)

# It rises when a saved member would answer otherwise.
FORMAT: Final = 1
_KIND: Final = "gnn"
_GRAPHS: Final = "graphs"
_CHANNELS: Final = "channels"  # in the folder of a graph
_FEATURES: Final = "features"
_NETWORK: Final = "network.npz"
_HEAD: Final = "head.npz"


@dataclass(frozen=True)
class GnnOptions:
    """The graph, what hears it how, and how that is trained."""

    __pydantic_config__ = STRICT

    convolution: Convolution = "sage"  # rsage hears every relation by itself, the others together
    graph: GraphOptions = field(default_factory=GraphOptions)
    # What nodes start from: the folder of a trained bi_encoder (with a slash in it, as in "./bi"),
    # or the name of one that the same run trains before this member. None: hashed TF-IDF and an SVD
    # of that width.
    encoder: str | None = None
    # Take also an encoder that has learned from other pairs. It may know the labels that the member
    # will be judged by, which nobody can tell from its folder: then no score means anything.
    foreign_encoder: bool = False
    features: int = 128
    width: int = 128  # of a state
    fan_outs: tuple[int, ...] = (15, 8)  # neighbours heard at each hop, and so how many hops
    sample_by: By = "weight"  # or uniform; of the neighbours that there are too many of
    heads: int = 4  # of gatv2
    hidden: int = 128  # numbers in the head's hidden layer; 0 makes it linear
    dropout: float = 0.2
    # What is said of a product without neighbours: what its text says, or nothing (NaN), which an
    # aggregator can tell from an opinion.
    cold: Cold = "text"
    cold_share: float = 0.1  # of products that are taught as if they had no neighbours
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            epochs=10, batch_size=256, learning_rate=2e-3, patience=4
        )
    )
    classification: ClassificationOptions = field(default_factory=ClassificationOptions)
    seed: int = 7

    def __post_init__(self) -> None:
        if not self.fan_outs or min(self.fan_outs) < 1:
            raise ConfigError(f"fan_outs {list(self.fan_outs)}: expected at least 1 at each hop")
        if min(self.width, self.features, self.heads) < 1 or min(self.hidden, self.seed) < 0:
            raise ConfigError(
                "width, features and heads: expected at least 1; hidden and seed: 0 or more"
            )
        if self.width % self.heads:
            raise ConfigError(f"width {self.width}: expected a multiple of the {self.heads} heads")
        for name in ("dropout", "cold_share"):
            if not 0 <= (share := getattr(self, name)) < 1:
                raise ConfigError(f"{name} {share}: expected 0 to below 1")
        training, other = self.training, TrainingOptions()
        for name in ("trained_layers", "fgm", "checkpointing", "layer_decay"):
            if getattr(training, name) != getattr(other, name):
                raise ConfigError(f"training.{name} is for language members; leave it out")
        if training.learning_rate is None:
            raise ConfigError("training.learning_rate: expected a number, such as 2e-3")
        self.classification.check_undistilled("graph member")

    def needs(self) -> Needs:
        """The bi-encoder that nodes start from, if one is named."""
        if self.encoder is None:
            return Needs()
        if "/" not in self.encoder:
            return Needs(members=(self.encoder,))
        about = Path(self.encoder) / ABOUT
        if not about.is_file():
            raise ConfigError(
                f"encoder {self.encoder!r} is no folder of a trained bi_encoder: it has no {ABOUT}"
            )
        return Needs(sources={"encoder": file_sha256(about)})


class GnnMember(LookingUp[ServedGraphs]):
    """States from sampled neighbourhoods, compared into four logits."""

    Options: ClassVar[type[Any]] = GnnOptions

    def __init__(self, name: str = _KIND, options: GnnOptions | None = None) -> None:
        super().__init__(name)
        self.options = options or GnnOptions()

    @named_extra(_KIND, "be fitted")
    def fit(
        self, train: LabelledPairs, valid: LabelledPairs, bench: Workbench = NO_WORKBENCH
    ) -> Self:
        """Build the graph without the queries that are to judge, and learn from `train`.

        Without surroundings the graph is made of the products and lists of `train`. Of several
        processes that train together the first alone is fitted.
        """
        # Imported here: what answers must not need them.
        import torch

        from models.graphs.training.fitting import Comparing, GraphTask
        from models.graphs.training.material import Material
        from models.graphs.training.networks import GraphNetwork
        from models.training.loop import train as run_training
        from models.training.steps.processes import is_first
        from models.vectors.comparison import ComparisonHead

        require_pairs(self.name, train)
        self._fitted = None
        options = self.options
        surroundings = bench.surroundings() if bench.surroundings else Surroundings.of(train)
        if not len(surroundings.products):
            raise DataError(
                f"member {self.name!r} has no graph to learn from: the catalogue around its pairs "
                "holds no product; expected that of the dataset the pairs are of"
            )
        hidden = hidden_queries(surroundings, options.graph, valid)
        sharing = Sharing(surroundings, bench)
        features = _features(options, train, hidden, sharing)
        taught_by = self._teachers(train, valid, bench)
        relations = relation_names(options.graph.relations, surroundings)
        graphs = build_graphs(surroundings, options.graph, features, hidden, relations, sharing)
        around = neighbourhoods(options, relations, graphs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = GraphNetwork(
                options.convolution,
                features.width,
                options.width,
                len(options.fan_outs),
                len(relations),
                heads=options.heads,
                dropout=options.dropout,
            )
            head = ComparisonHead(options.width, options.hidden, options.dropout)
        task = GraphTask(
            Comparing(network, head),
            around,
            Material.of(train, features, around, surroundings.products),
            Material.of(valid, features, around, surroundings.products),
            (train, valid),
            options.classification,
            transductive=options.graph.transductive,
            cold_share=options.cold_share,
            batch_size=options.training.batch_size,
        )
        identity = training_identity(
            _KIND, FORMAT, plain(options), _digest(features, graphs), train, valid
        )
        curve = run_training(task, options.training, options.seed, bench, identity)
        if not is_first():
            return self
        network.cpu().eval()
        head.cpu().eval()
        served = ServedGraphs(
            features,
            network.served(),
            head.weights(),
            hearing(options, relations),
            around,
            options.graph.transductive,
            options.cold,
        )
        workshop = Workshop(self, self.name, bench)
        _write(served, workshop.path)
        curve.draw(workshop.path / CURVE)
        made = how_made(
            train=train,
            valid=valid,
            seed=options.seed,
            curve=curve,
            options=plain(options),
            relations=list(relations),
            graphs={locale: _described(each) for locale, each in graphs.items()},
            hidden_queries=len(hidden),
            encoder_learned_from=taught_by,
        )
        files = seal(
            workshop.path,
            kind=_KIND,
            format_number=FORMAT,
            name=self.name,
            options=plain(options),
            made=made,
        )
        self._fitted = _opened(files, options)
        return self

    def predict_logits(self, pairs: Pairs) -> Logits:
        """Four logits per pair; every query and product that `pairs` name is computed once at most.

        Products come from the states given to `with_vectors` where they are known there.
        """
        return self._whole().served.logits(pairs)

    def state_packing(self) -> Packing:
        """How a product's state is stored."""
        return self._whole().served.packing

    def catalogue_digests(self, products: Products, rows: NDArray[np.int64]) -> Digests:
        """What the state of each product depends on besides `vectors_identity`.

        Its texts and those of the neighbours it hears, and their edges. `products` are those of the
        surroundings that this member is `amid`.
        """
        return self._whole().served.catalogue_digests(products, rows)

    def catalogue_states(self, products: Products, rows: NDArray[np.int64]) -> Packed:
        """The packed state of each of these products, with its neighbourhood."""
        return self._whole().served.catalogue_states(products, rows)

    def amid(self, surroundings: Surroundings) -> Self:
        """This member, hearing what customers do now, in the relations that it was trained with.

        One of which there is nothing today is heard as silence. Nobody's edges are left out: it is
        for answering, and not for being judged.
        """
        fitted, options = self._whole(), self.options
        relations = tuple(fitted.files.about["made"]["relations"])
        graphs = build_graphs(
            surroundings, options.graph, fitted.served.features, frozenset(), relations
        )
        around = neighbourhoods(options, relations, graphs)
        return self._but(neighbourhoods=around)

    def explain(self, pair: Pairs, seconds: float = 0.05) -> Explanation:
        """The neighbours and relations that moved the logits of one pair most.

        By the graph that this member has; the explanation says whether a stored state answers,
        whose graph may be another. None of what is answered where the member says nothing.
        """
        return explain(self._whole().served, pair, seconds)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The member saved in `folder`, which must stay there: its graphs are mapped."""
        files = open_sealed(folder, kind=_KIND, format_number=FORMAT)
        with found_whole(folder, "graph member"):
            options = parse(GnnOptions, files.about["options"])
            member = cls(files.about["name"], options)
            member._fitted = _opened(files, options)
        return member

    def _teachers(
        self, train: LabelledPairs, valid: LabelledPairs, bench: Workbench
    ) -> Teachers | None:
        """What the encoder has learned from, if there is one: other pairs only if that is asked."""
        folder = _encoder(self.options, bench)
        if folder is None:
            return None
        found = teachers(folder, train, valid)
        if found == "other pairs" and not self.options.foreign_encoder:
            raise ConfigError(
                f"encoder {self.options.encoder!r} of member {self.name!r} has learned from other "
                "pairs than this fit's, and may know the labels that are to judge it; expected one "
                "of the same data, split and seed: name a bi_encoder of this run, or set "
                "foreign_encoder where the pairs that judge are certainly none of its own"
            )
        if found != "the same pairs":
            log.warning(
                "the encoder of member %s has learned from %s: scores mean something only if the "
                "pairs that judge are none of those",
                self.name,
                "other pairs" if found == "other pairs" else "pairs that its folder does not tell",
            )
        return found


def neighbourhoods(
    options: GnnOptions, relations: tuple[str, ...], graphs: Mapping[Locale, FeaturedGraph]
) -> dict[Locale, Neighbourhoods]:
    """The graphs as the member of `options` hears them."""
    how = hearing(options, relations)
    return {locale: how.within(graph) for locale, graph in graphs.items()}


def hearing(options: GnnOptions, relations: tuple[str, ...]) -> Hearing:
    """How the member of `options` hears."""
    merging: Merging = "apart" if options.convolution == "rsage" else "together"
    return Hearing(relations, merging, options.fan_outs, Draw(options.seed, options.sample_by))


def _encoder(options: GnnOptions, bench: Workbench) -> Path | None:
    """The folder of the bi-encoder that nodes start from, if they do."""
    name = options.encoder
    return None if name is None else bench.members.get(name, Path(name))


def _features(
    options: GnnOptions, train: Pairs, hidden: frozenset[str], sharing: Sharing
) -> FeatureSource:
    """What nodes start from, fitted on the catalogue and on queries that are not to judge."""
    if (encoder := _encoder(options, sharing.bench)) is not None:
        return EncodedText.load(encoder)
    asked = train.queries.take(np.unique(train.query_rows))
    shown = [row for row, text in enumerate(asked.texts) if fold(text) not in hidden]
    queries = asked.take(np.array(shown, np.int64))
    width, seed = options.features, options.seed

    def fitted() -> Arrays:
        return HashedText.fit(queries, sharing.surroundings.products, width, seed).arrays()

    return HashedText(**sharing.arrays(fitted, "hashed", queries, width, seed))


def _write(served: ServedGraphs, folder: Path) -> None:
    with atomic_file(folder / _NETWORK) as scratch, scratch.open("wb") as target:
        np.savez(target, allow_pickle=False, **served.network.weights)
    served.head.save(folder / _HEAD)
    served.features.save(folder / _FEATURES)
    for locale, around in served.neighbourhoods.items():
        around.featured.save(folder / _GRAPHS / locale)
        save_channels(around.channels, folder / _GRAPHS / locale / _CHANNELS)


def _opened(files: Sealed, options: GnnOptions) -> Answering[ServedGraphs]:
    """What answers, from a whole folder."""
    folder = files.path
    with (folder / _NETWORK).open("rb") as source, np.load(source, allow_pickle=False) as arrays:
        network = ServedNetwork(options.convolution, {name: arrays[name] for name in arrays})
    how = hearing(options, tuple(files.about["made"]["relations"]))
    around = {
        locale: _opened_graph(folder / _GRAPHS / locale, how)
        for locale in LOCALES
        if locale in files.about["made"]["graphs"]
    }
    served = ServedGraphs(
        _opened_features(folder / _FEATURES, options),
        network,
        PairHead.load(folder / _HEAD),
        how,
        around,
        options.graph.transductive,
        options.cold,
    )
    return Answering(served, files)


def _opened_graph(folder: Path, how: Hearing) -> Neighbourhoods:
    """A graph with its channels; members that were saved without those join them now."""
    featured, saved = FeaturedGraph.open(folder), folder / _CHANNELS
    if not saved.is_dir():
        return how.within(featured)
    found = open_channels(featured.graph, how.relations, how.merging, saved)
    return Neighbourhoods(featured, how, found)


def _opened_features(folder: Path, options: GnnOptions) -> FeatureSource:
    if options.encoder is None:
        return HashedText.load(folder)
    return EncodedText.load(folder / FOLDER)


def _described(graph: FeaturedGraph) -> dict[str, Any]:
    relations = {name: len(edges) for name, edges in graph.graph.relations.items()}
    products = graph.graph.products
    return {"products": products, "queries": len(graph.graph) - products, "edges": relations}


def _digest(features: FeatureSource, graphs: Mapping[Locale, FeaturedGraph]) -> str:
    """A digest of what the training starts from besides the pairs."""
    digest = sha256(features.identity.encode())
    for locale, featured in graphs.items():
        digest.update(locale.encode() + featured.graph.keys.tobytes())
        digest.update(featured.features.tobytes())
        for name, edges in featured.graph.relations.items():
            digest.update(name.encode() + edges.indptr.tobytes() + edges.indices.tobytes())
            digest.update(edges.weights.tobytes())
    return digest.hexdigest()
