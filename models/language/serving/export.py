"""A trained network written down in every variant, each compared with it and timed.

The only part of serving that needs torch and onnx, which are imported when it is called.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError, ExportError, missing_module
from models.files import file_sha256, scratch_folder
from models.language.reading.sequences import Sequences, padded
from models.language.serving.batches import Run, run_batches
from models.language.serving.doubt import leads, smallest_doubt
from models.language.serving.engines import asked_threads
from models.language.serving.form import Form
from models.language.serving.gate import UNMEASURED, Gap, complaint, measure_gap
from models.language.serving.halves import Halves, halved
from models.language.serving.manifest import (
    FORMAT,
    Exported,
    FormReport,
    Weights,
    write_manifest,
)
from models.language.serving.measure import machine_name, milliseconds_by_shape
from models.language.serving.options import EXACT, INT8, ServingOptions
from models.member import Logits

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

_SUFFIX: Final = ".onnx"


def export_form(
    module: "nn.Module",
    folder: Path,
    *,
    sample: Sequences,
    pad_id: int,
    takes_segments: bool,
    options: ServingOptions,
    answers: Callable[[Run], Logits],
    query_rows: NDArray[np.int32],
    rows_are_logits: bool = False,
) -> FormReport:
    """Write `module(ids, mask, segments) -> (texts, width)` and its variants into `folder`.

    `sample` are texts of the kind that will be asked: they calibrate int8, and times are measured
    on them. `answers` gives logits of held-out pairs by way of a run; it is asked of the trained
    network and of each variant, and the gate judges the gap. float32 that fails is an ExportError;
    int8 that fails is left out, and the report says why. What int8 spares and doubts is chosen on
    the pairs of half of the queries, and the pairs of the others alone judge the choice, once;
    `query_rows` says which pairs are of one query. Where `rows_are_logits`, that is, `answers`
    returns what a run does, int8 leaves close decisions to float32 (see `doubt`). The module is
    moved to the CPU and set to evaluation.
    """
    if not len(sample):
        raise ExportError("no texts to try an export on; expected a sample of at least one")
    try:
        import torch

        from models.language.serving.network import onnx_network
        from models.language.serving.torch_engine import TorchSession
    except ModuleNotFoundError as error:
        raise missing_module(error, "training") from error

    trained = TorchSession(module, torch.device("cpu"))
    width = trained(padded(sample, np.arange(1), pad_id)).shape[1]

    def run_trained(texts: Sequences) -> NDArray[np.float32]:
        return run_batches(
            trained, texts, width=width, pad_id=pad_id, batch_tokens=options.batch_tokens
        )

    report = FormReport(
        format=FORMAT,
        pad_id=pad_id,
        width=width,
        batch_tokens=options.batch_tokens,
        variants={},
        left_out={},
        machine=machine_name(),
        threads=asked_threads(options.threads),
    )
    judge = _Judge(
        folder,
        report,
        options,
        answers,
        expected=answers(run_trained),
        halves=halved(query_rows),
        rows_are_logits=rows_are_logits,
    )
    left_out: dict[str, str] = {}
    # In the folder itself: where temporary files go there may be no room for weights.
    with scratch_folder(folder, "weights") as scratch:
        exact = onnx_network(module, sample, takes_segments, scratch)
        if wrong := judge.refuses(EXACT, exact):
            raise ExportError(
                f"the exported network does not answer as the trained one does: {wrong}; "
                "it is not served. Raise the limits only where the cause is known"
            )
        if INT8 in options.variants and (
            wrong := _without_int8(judge, exact, sample, pad_id, options, scratch)
        ):
            left_out[INT8] = wrong
    measured = {
        name: replace(
            about,
            milliseconds=milliseconds_by_shape(
                judge.run(name, about), sample, options.shapes, options.measure_seconds
            ),
        )
        for name, about in judge.kept.items()
    }
    report = replace(report, variants=measured, left_out=left_out)
    write_manifest(folder, report)
    return report


def _without_int8(
    judge: "_Judge",
    exact: "ModelProto",
    sample: Sequences,
    pad_id: int,
    options: ServingOptions,
    scratch: Path,
) -> str:
    """Why there is no int8, in words; or nothing, and it is kept with the least spared.

    The least that the choosing half lets pass. What the judging half then refuses is not tried
    again with more: of several tries on the same pairs one passes by luck.
    """
    from models.language.serving.quantise import quantised, rounded

    scales, wrong = rounded(exact, sample, pad_id), ""
    for share in options.spared:
        wrong = judge.refuses(INT8, quantised(scales, share, scratch / "quantised"), spared=share)
        if not wrong:
            return judge.overrules(INT8)
    return wrong


class _Judge:
    """Writes variants, and keeps those that pass their gate."""

    def __init__(
        self,
        folder: Path,
        report: FormReport,
        options: ServingOptions,
        answers: Callable[[Run], Logits],
        *,
        expected: Logits,
        halves: Halves,
        rows_are_logits: bool,
    ) -> None:
        self.kept: dict[str, Exported] = {}
        self._folder, self._report, self._options = folder, report, options
        self._answers, self._expected, self._halves = answers, expected, halves
        self._rows_are_logits = rows_are_logits

    def refuses(self, variant: str, network: "ModelProto", spared: float = 0.0) -> str:
        """What is wrong with the variant, in words, and its files gone; or nothing, and it is kept.

        That is on the half of the pairs that int8 may choose by, and on all of them for float32,
        which chooses nothing. float32 comes first: others lean on it.
        """
        from models.language.serving.weights.writing import write_network

        path = self._folder / f"{variant}{_SUFFIX}"
        data = write_network(network, path)
        weights = None if data is None else Weights(data.name, file_sha256(data))
        about = Exported(path.name, file_sha256(path), UNMEASURED, {}, spared, weights=weights)
        try:
            gap, about = self._judged(variant, about)
            wrong = complaint(variant, gap, self._options)
        except DataError:  # of the pairs, not of the network
            raise
        except Exception as error:  # an exception per cause, with no root of its own
            wrong = f"{variant} does not run: {error}"
        if wrong:
            self._discard(about)
        else:
            self.kept[variant] = about
        return wrong

    def overrules(self, variant: str) -> str:
        """What is wrong with a kept variant on the pairs that judge, and it is gone; or nothing."""
        wrong = complaint(variant, self.kept[variant].gap, self._options)
        if wrong:
            self._discard(self.kept.pop(variant))
        return wrong

    def run(self, variant: str, about: Exported) -> Run:
        """The variant as it will be served."""
        form = Form(
            self._folder,
            replace(self._report, variants={**self.kept, variant: about}),
            engine="onnxruntime",
            threads=self._report.threads,
        )
        return lambda texts: form.run(texts, variant)

    def _judged(self, variant: str, about: Exported) -> tuple[Gap, Exported]:
        """The gap on the pairs that choose, and `about` with the one on those that judge.

        It is as it was, or with as much doubt as the first need.
        """
        served = self._answers(self.run(variant, about))
        if variant == EXACT:
            gap = measure_gap(self._expected, served)
            return gap, replace(about, gap=gap)
        doubted = np.zeros(len(served), bool)
        choosing, judging = self._halves.choosing, self._halves.judging
        gap = self._gap(served, doubted, choosing)
        if self._rows_are_logits and gap.largest_difference >= 0:
            doubt = smallest_doubt(
                self._expected[choosing], served[choosing], self._options.flip_rate
            )
            if doubt:
                about, doubted = replace(about, doubt=doubt), leads(served) <= doubt
                served = self._answers(self.run(variant, about))
                gap = self._gap(served, doubted, choosing)
        return gap, replace(about, gap=self._gap(served, doubted, judging))

    def _gap(self, served: Logits, doubted: NDArray[np.bool_], rows: NDArray[np.int64]) -> Gap:
        gap = measure_gap(self._expected[rows], served[rows])
        return replace(gap, doubted=float(doubted[rows].mean()))

    def _discard(self, about: Exported) -> None:
        for name in about.digests:
            (self._folder / name).unlink()
