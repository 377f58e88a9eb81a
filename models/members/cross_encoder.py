"""The cross-encoder member: a transformer reads query and product as one text.

It answers with onnxruntime, tokenizers and numpy; torch is there when it is fitted.
"""

from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from pydantic import ValidationError

from models.errors import EsciError, ReleaseError
from models.labels import LABELS
from models.language.examples import pairs_to_compare
from models.language.options import LanguageOptions
from models.language.reading.reader import Reader
from models.language.serving.form import Form
from models.language.serving.options import ServingOptions
from models.member import Cost, Logits, require_fitted, require_pairs
from models.pairs import LabelledPairs, Pairs
from models.registry import named_extra
from models.sealed import (
    CURVE,
    FORM,
    TRAINED,
    Sealed,
    Workshop,
    how_made,
    open_sealed,
    seal,
)
from models.training.identity import training_identity
from models.typed import STRICT, complaints, parse, plain
from models.workbench import NO_WORKBENCH, Standing, Workbench

if TYPE_CHECKING:
    from torch import nn

# It rises when a saved member would answer otherwise.
FORMAT: Final = 1
_KIND: Final = "cross_encoder"
_CHUNK: Final = 1 << 16  # pairs answered at a time, so that millions take no more memory


@dataclass(frozen=True)
class CrossEncoderOptions(LanguageOptions):
    """The backbone, what it reads, how it is trained and how it is served."""

    __pydantic_config__ = STRICT


@dataclass(frozen=True, eq=False)
class _Fitted:
    reader: Reader
    form: Form
    files: Sealed
    variant: str | None  # of the form, that answers; None: what was measured fastest


class CrossEncoderMember:
    """Query and product as one text through a transformer, into four logits."""

    Options: ClassVar[type[Any]] = CrossEncoderOptions

    def __init__(self, name: str = _KIND, options: CrossEncoderOptions | None = None) -> None:
        self.name = name
        self.options = options or CrossEncoderOptions()
        self._fitted: _Fitted | None = None
        self._source: Self | None = None  # that was fitted: its folder goes when it does

    @named_extra(_KIND, "be fitted")
    def fit(
        self, train: LabelledPairs, valid: LabelledPairs, bench: Workbench = NO_WORKBENCH
    ) -> Self:
        """Train the network, keeping what is best on `valid`, and export it.

        The export is compared with the trained network on `valid`, or on `train` where that is
        empty. Of several processes that train together the first alone exports, and is fitted.
        """
        # Imported here: what answers must not need them.
        from models.language.networks.cross import CrossNetwork
        from models.language.serving.export import export_form
        from models.language.starting import started
        from models.language.training.pair_classifier import train_on_pairs
        from models.training.steps.processes import is_first

        require_pairs(self.name, train)
        self._fitted = None
        with started(self.options, train, bench) as start:
            options, reader, encoder = start.options, start.reader, start.encoders[0]
            network = CrossNetwork(encoder, options.dropout)
        identity = training_identity(
            _KIND, FORMAT, plain(options), start.backbone.sha256, train, valid
        )
        curve = train_on_pairs(
            network,
            reader,
            train,
            valid,
            training=options.training,
            classification=options.classification,
            seed=options.seed,
            bench=bench,
            identity=identity,
        )
        if not is_first():
            return self
        workshop = Workshop(self, self.name, bench)
        network.cpu().eval()
        network.save(workshop.path / TRAINED)
        reader.save(workshop.path / TRAINED)
        reader.save(workshop.path)
        curve.draw(workshop.path / CURVE)
        compared = pairs_to_compare(train, valid, options.seed)
        held_out = reader.read_pairs(compared)
        bench.report(Standing(1, 1, "exporting"))
        report = export_form(
            network.merged(),
            workshop.path / FORM,
            sample=held_out,
            pad_id=reader.layout.pad_id,
            takes_segments=encoder.takes_segments,
            options=options.serving,
            answers=lambda run: run(held_out),
            query_rows=compared.query_rows,
            rows_are_logits=True,
        )
        made = how_made(
            train=train,
            valid=valid,
            seed=options.seed,
            curve=curve,
            backbone=start.backbone.named(),
            options=plain(options),
            form=plain(report),
        )
        files = seal(
            workshop.path,
            kind=_KIND,
            format_number=FORMAT,
            name=self.name,
            options=plain(self.options),
            made=made,
        )
        self._fitted = _opened(files, self.options.serving)
        return self

    def predict_logits(self, pairs: Pairs) -> Logits:
        """Four logits per pair, by the exported variant that the options name for this."""
        fitted = self._whole()
        logits = np.empty((len(pairs), len(LABELS)), np.float32)
        for start in range(0, len(pairs), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(pairs)))
            logits[rows] = fitted.form.run(
                fitted.reader.read_pairs(pairs.take(rows)), fitted.variant
            )
        return logits

    def quickest(self) -> Self:
        """This member, answering by what was measured fastest for as many pairs as it is asked.

        For requests that somebody waits for. What it says then lies within the gate of the export
        from what this member says, and depends on how many pairs are asked together.
        """
        other, fitted = copy(self), self._whole()
        fitted.form.open()
        other._fitted, other._source = replace(fitted, variant=None), self
        return other

    def cost(self) -> Cost:
        """What a benchmark measured, zero where none did."""
        return Cost()

    def save(self, folder: Path) -> None:
        """Write what was trained, the form that answers, the reader and `member.json`."""
        self._whole().files.copy_to(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The member saved in `folder`, which must stay there: variants are opened when needed."""
        files = open_sealed(folder, kind=_KIND, format_number=FORMAT)
        try:
            options = parse(CrossEncoderOptions, files.about["options"])
        except (ValidationError, EsciError) as error:
            said = complaints(error) if isinstance(error, ValidationError) else error
            raise ReleaseError(
                f"{folder} was saved with options this code does not have: {said}; "
                "train the member again, or run the version that wrote it"
            ) from error
        member = cls(files.about["name"], options)
        member._fitted = _opened(files, options.serving)
        return member

    def _whole(self) -> _Fitted:
        return require_fitted(self.name, self._fitted)


def _opened(files: Sealed, serving: ServingOptions) -> _Fitted:
    """What answers, from a whole folder."""

    def trained() -> "nn.Module":
        from models.language.networks.cross import CrossNetwork

        return CrossNetwork.load(files.path / TRAINED)

    form = Form.load(files.path / FORM, trained=trained)
    return _Fitted(Reader.load(files.path), form, files, form.known(serving.offline))
