"""A trained network written down in every variant, each compared with it and timed.

The only part of serving that needs torch and onnx, which are imported when it is called.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import EsciError, ExportError, missing_module
from models.files import atomic_file, file_sha256
from models.language.reading.sequences import Sequences, padded
from models.language.serving.batches import Run, run_batches
from models.language.serving.engines import asked_threads
from models.language.serving.form import Form
from models.language.serving.gate import UNMEASURED, Gap, complaint, measure_gap
from models.language.serving.manifest import FORMAT, Exported, FormReport, write_manifest
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
) -> FormReport:
    """Write `module(ids, mask, segments) -> (texts, width)` and its variants into `folder`.

    `sample` are texts of the kind that will be asked: they calibrate int8, and times are measured
    on them. `answers` gives logits of held-out pairs by way of a run; it is asked once of the
    trained network and once of each variant, and the gate judges the gap. float32 that fails is an
    ExportError; another variant that fails is left out, and the report says why. The module is
    moved to the CPU and set to evaluation.
    """
    if not len(sample):
        raise ExportError("no texts to try an export on; expected a sample of at least one")
    try:
        import torch

        from models.language.serving.network import onnx_network
        from models.language.serving.quantise import quantised, rounded
        from models.language.serving.torch_engine import TorchSession
    except ModuleNotFoundError as error:
        raise missing_module(error, "training") from error

    trained = TorchSession(module, torch.device("cpu"))
    width = trained(padded(sample, np.arange(1), pad_id)).shape[1]

    def run_trained(texts: Sequences) -> NDArray[np.float32]:
        return run_batches(
            trained, texts, width=width, pad_id=pad_id, batch_tokens=options.batch_tokens
        )

    expected = answers(run_trained)
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
    exact = onnx_network(module, sample, takes_segments)
    judge = _Judge(folder, report, options, answers, expected)
    served = judge.written(EXACT, exact)
    if isinstance(served, str):
        raise ExportError(
            f"the exported network does not answer as the trained one does: {served}; "
            "it is not served. Raise the limits only where the cause is known"
        )
    kept: dict[str, Exported] = {EXACT: served}
    left_out: dict[str, str] = {}
    if INT8 in options.variants:
        scales = rounded(exact, sample, pad_id)
        for share in options.spared:
            found = judge.written(INT8, quantised(scales, share), share)
            if not isinstance(found, str):
                kept[INT8] = found
                left_out.clear()
                break
            left_out[INT8] = found
    report = replace(report, variants=kept, left_out=left_out)
    measured = {
        name: replace(
            about,
            milliseconds=milliseconds_by_shape(
                judge.run(name, about), sample, options.shapes, options.measure_seconds
            ),
        )
        for name, about in kept.items()
    }
    report = replace(report, variants=measured)
    write_manifest(folder, report)
    return report


@dataclass(frozen=True)
class _Judge:
    """Writes variants, and keeps those that pass their gate."""

    folder: Path
    report: FormReport
    options: ServingOptions
    answers: Callable[[Run], Logits]
    expected: Logits

    def written(self, variant: str, network: "ModelProto", spared: float = 0.0) -> Exported | str:
        """The variant in its file, or, with no file, what is wrong with it."""
        path = self.folder / f"{variant}{_SUFFIX}"
        with atomic_file(path) as scratch:
            scratch.write_bytes(network.SerializeToString(deterministic=True))
        about = Exported(path.name, file_sha256(path), UNMEASURED, {}, spared)
        gap, wrong = self._gap(variant, about)
        if wrong:
            path.unlink()
            return wrong
        return replace(about, gap=gap)

    def run(self, variant: str, about: Exported) -> Run:
        """The variant as it will be served."""
        form = Form(
            self.folder,
            replace(self.report, variants={variant: about}),
            engine="onnxruntime",
            threads=self.report.threads,
        )
        return lambda texts: form.run(texts, variant)

    def _gap(self, variant: str, about: Exported) -> tuple[Gap, str]:
        try:
            gap = measure_gap(self.expected, self.answers(self.run(variant, about)))
        except EsciError:
            raise
        except Exception as error:  # an exception per cause, with no root of its own
            return UNMEASURED, f"{variant} does not run: {error}"
        return gap, complaint(variant, gap, self.options)
