"""A trained network written down in every variant, each compared with it and timed.

The only part of serving that needs torch and onnx, which are imported when it is called.
"""

from collections.abc import Callable
from dataclasses import replace
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
from models.language.serving.options import EXACT, ServingOptions
from models.member import Logits

if TYPE_CHECKING:
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
        from models.language.serving.quantise import quantised
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
    for variant in dict.fromkeys((EXACT, *options.variants)):
        network = exact if variant == EXACT else quantised(exact, sample, pad_id)
        path = folder / f"{variant}{_SUFFIX}"
        with atomic_file(path) as scratch:
            scratch.write_bytes(network.SerializeToString(deterministic=True))
        served = Exported(path.name, file_sha256(path), UNMEASURED, {})
        run = _run_of(
            Form(
                folder,
                replace(report, variants={variant: served}),
                engine="onnxruntime",
                threads=report.threads,
            ),
            variant,
        )
        gap, wrong = _judged(variant, expected, answers, run, options)
        if wrong:
            path.unlink()
        if wrong and variant == EXACT:
            raise ExportError(
                f"the exported network does not answer as the trained one does: {wrong}; "
                "it is not served. Raise the limits only where the cause is known"
            )
        if wrong:
            report = replace(report, left_out={**report.left_out, variant: wrong})
            continue
        times = milliseconds_by_shape(run, sample, options.shapes, options.measure_seconds)
        served = replace(served, gap=gap, milliseconds=times)
        report = replace(report, variants={**report.variants, variant: served})
    write_manifest(folder, report)
    return report


def _judged(
    variant: str,
    expected: Logits,
    answers: Callable[[Run], Logits],
    run: Run,
    options: ServingOptions,
) -> tuple[Gap, str]:
    """The gap of a variant, and what is wrong with it; not to run at all is the widest gap."""
    try:
        gap = measure_gap(expected, answers(run))
    except EsciError:
        raise
    except Exception as error:  # onnxruntime has an exception per cause, with no root of its own
        return UNMEASURED, f"{variant} does not run: {error}"
    return gap, complaint(variant, gap, options)


def _run_of(form: Form, variant: str) -> Run:
    return lambda texts: form.run(texts, variant)
