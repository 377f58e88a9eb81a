"""What enters the layers that learn, computed once for all epochs.

With the embeddings and the lower layers frozen, and out of dropout, what they answer never
changes. It is kept in a file of float16 by token, which the system pages in and out, and a training
step runs the upper layers alone. With every layer frozen, the vectors of the texts are kept.
"""

import json
import logging
import os
import time
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import EsciError, MemberError
from models.files import read_json, write_json
from models.language.networks.encoder import Encoder
from models.language.reading.sequences import Sequences, padded, ranges, token_batches
from models.training.options import TrainingOptions
from models.training.steps.precision import autocast_of
from models.training.steps.processes import told_by_first, training_device
from models.workbench import NO_WORKBENCH, Standing, Workbench

_FORMAT: Final = 1
_BATCH_TOKENS: Final = 4096  # with padding, while the file is written
_BATCH_TEXTS: Final = 512
_FLUSH_SECONDS: Final = 30.0  # what a kill may cost while the file is written
_REPORT_SECONDS: Final = 1.0
_MEGABYTE: Final = 1_000_000
# numpy has no bfloat16; its bits are kept as whole numbers.
_STORED: Final[dict[str, tuple[Any, torch.dtype]]] = {
    "fp16": (np.float16, torch.float16),
    "bf16": (np.int16, torch.bfloat16),
    "fp32": (np.float32, torch.float32),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Store:
    """A file of rows, of which text i has `starts[i] .. starts[i + 1] - 1`."""

    rows: NDArray[Any]  # (rows, width), mapped into memory
    dtype: torch.dtype
    starts: NDArray[np.int64]

    def read(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """The rows `rows` in single precision."""
        found = torch.from_numpy(np.ascontiguousarray(self.rows[rows]))
        return found.view(self.dtype).to(device).float()


class EncodedTexts:
    """Texts by row, and their vectors by an encoder of which some, all or no layers learn."""

    def __init__(
        self,
        encoder: Encoder,
        sequences: Sequences,
        pad_id: int,
        lower: int | None,
        store: _Store | None,
        note: str,
    ) -> None:
        self.encoder, self.sequences = encoder, sequences
        self.lengths = sequences.lengths()
        self.note = note  # what to tell of how it is done; empty where it is as was asked
        self._pad_id, self._lower, self._store = pad_id, lower, store

    @classmethod
    def prepare(
        cls,
        encoder: Encoder,
        sequences: Sequences,
        pad_id: int,
        options: TrainingOptions,
        bench: Workbench = NO_WORKBENCH,
    ) -> Self:
        """Freeze what `options.trained_layers` leaves frozen, and compute what that allows once.

        That takes as long as answering all texts. The file is kept in the bench's folder, where a
        later call with the same frozen weights and texts finds it, or half of it; else in a
        temporary folder for as long as the object lives. Where it would take more than
        `cache_megabytes`, or more than there is, the lower layers are computed at every step.
        """
        trained = options.trained_layers
        if trained is None:
            return cls(encoder, sequences, pad_id, None, None, "")
        lower = encoder.train_top(trained)
        if lower == 0:  # looking embeddings up is cheaper than reading them back
            return cls(encoder, sequences, pad_id, None, None, "")
        is_pooled = lower == encoder.n_layers
        rows = len(sequences) if is_pooled else int(sequences.starts[-1])
        width = _row_width(encoder, is_pooled=is_pooled)
        needed = rows * width * np.dtype(_STORED[options.cache_precision][0]).itemsize
        if needed > options.cache_megabytes * _MEGABYTE:
            note = (
                f"{lower} lower layers were computed at every step: keeping what they answer takes "
                f"{needed / _MEGABYTE:.0f} MB, and cache_megabytes is {options.cache_megabytes}"
            )
            log.warning(note)
            return cls(encoder, sequences, pad_id, lower, None, note)
        with ExitStack() as own:

            def compute() -> dict[str, str]:
                folder = bench.folder or own.enter_context(bench.scratch("activations"))
                try:
                    path = _computed(encoder, sequences, pad_id, lower, options, folder, bench)
                except _NoRoomError as error:
                    own.close()
                    note = f"{lower} lower layers were computed at every step: {error}"
                    log.warning(note)
                    return {"note": note}
                return {"path": str(path)}

            # The first process computes, the others find it done.
            found = told_by_first(compute)
            store = None
            if path := found.get("path"):
                store = _opened(Path(path), width, sequences, options, is_pooled=is_pooled)
            texts = cls(encoder, sequences, pad_id, lower, store, found.get("note", ""))
            weakref.finalize(texts, own.pop_all().close)
        return texts

    def __len__(self) -> int:
        return len(self.sequences)

    def vectors(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """The vectors of the texts of `rows`, (rows, width), with a gradient where layers learn."""
        if self._store is None:
            return self._encoded(rows, device)
        if self._lower == self.encoder.n_layers:
            return self._store.read(rows, device)
        lengths = self.lengths[rows]
        mask = torch.from_numpy(np.arange(lengths.max(initial=1)) < lengths[:, None]).to(device)
        found = self._store.read(ranges(self._store.starts[rows], lengths), device)
        states = found.new_zeros(*mask.shape, self.encoder.state_width)
        states[mask] = found
        segments = mask.long()
        segments[mask] = torch.from_numpy(
            self.sequences.segments[ranges(self.sequences.starts[rows], lengths)]
        ).to(segments)
        return self.encoder.upper(self._lower or 0, states, mask.long(), segments)

    def _encoded(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        ids, mask, segments = self._batch(rows, device)
        if self._lower is None or self._lower == self.encoder.n_layers:
            # Uncut, for not every backbone can be; one that is all frozen gives no gradients.
            vectors: Tensor = self.encoder(ids, mask, segments)
            return vectors
        with torch.no_grad():
            states = self.encoder.lower(self._lower, ids, mask, segments)
        return self.encoder.upper(self._lower, states, mask, segments)

    def _batch(
        self, rows: NDArray[np.int64], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch = padded(self.sequences, rows, self._pad_id)
        ids, mask, segments = (
            torch.from_numpy(part).to(device) for part in (batch.ids, batch.mask, batch.segments)
        )
        return ids, mask, segments


def _row_width(encoder: Encoder, *, is_pooled: bool) -> int:
    return encoder.width if is_pooled else encoder.state_width


def _computed(
    encoder: Encoder,
    sequences: Sequences,
    pad_id: int,
    lower: int,
    options: TrainingOptions,
    folder: Path,
    bench: Workbench,
) -> Path:
    """The file of this very encoder and these texts in `folder`, completed where it is not."""
    device = training_device()
    stored, dtype = _STORED[options.cache_precision]
    is_pooled = lower == encoder.n_layers
    starts = _starts(sequences, is_pooled=is_pooled)
    identity = _identity(encoder, sequences, lower, options, device)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"activations-{identity[:16]}.bin"
    progress = path.with_suffix(".json")
    shape = (int(starts[-1]), _row_width(encoder, is_pooled=is_pooled))
    done = _done(progress, path, shape, stored, identity)
    if not done:
        progress.unlink(missing_ok=True)  # it speaks of a file that is no more
        _reserve(path, int(np.prod(shape)) * np.dtype(stored).itemsize)
    rows = np.memmap(path, stored, "r+", shape=shape)
    texts = EncodedTexts(encoder, sequences, pad_id, lower, None, "")
    lengths = texts.lengths
    batches = list(token_batches(lengths, _BATCH_TOKENS, _BATCH_TEXTS))
    # Longest first, so that texts done say little of the time they took; padded tokens do.
    work = np.cumsum([0, *(len(batch) * lengths[batch[0]] for batch in batches)])
    encoder.to(device).eval()
    flushed = told = time.monotonic()
    with torch.no_grad(), autocast_of(options.precision, device):
        for at in range(done, len(batches)):
            batch = batches[at]
            ids, mask, segments = texts._batch(batch, device)
            if is_pooled:
                found, places = encoder(ids, mask, segments), batch
            else:
                states = encoder.lower(lower, ids, mask, segments)
                found = states[mask.bool()]
                places = ranges(starts[batch], lengths[batch])
            kept = found.to(dtype)
            if not torch.isfinite(kept).all():
                raise MemberError(
                    f"activations of the backbone do not fit {options.cache_precision}; expected "
                    "finite numbers: set cache_precision to bf16 or fp32"
                )
            kept = kept.cpu()
            rows[places] = (kept.view(torch.int16) if stored is np.int16 else kept).numpy()
            now, done = time.monotonic(), at + 1
            if now - flushed >= _FLUSH_SECONDS or done == len(batches):
                rows.flush()
                write_json(progress, {"identity": identity, "batches": done})
                flushed = now
            if now - told >= _REPORT_SECONDS or done == len(batches):
                bench.report(Standing(int(work[done]), int(work[-1]), "lower layers"))
                told = now
    return path


def _opened(
    path: Path, width: int, sequences: Sequences, options: TrainingOptions, *, is_pooled: bool
) -> _Store:
    """What the first process has written to `path`."""
    stored, dtype = _STORED[options.cache_precision]
    starts = _starts(sequences, is_pooled=is_pooled)
    try:
        return _Store(np.memmap(path, stored, "r", shape=(int(starts[-1]), width)), dtype, starts)
    except FileNotFoundError as error:
        raise MemberError(
            f"{path}, which the first process has written, is not there for this one; expected "
            "processes that share their folders: let the run folder lie where all machines see it"
        ) from error


def _starts(sequences: Sequences, *, is_pooled: bool) -> NDArray[np.int64]:
    """Where the rows of each text begin: one row a text, or one a token."""
    return np.arange(len(sequences) + 1, dtype=np.int64) if is_pooled else sequences.starts


class _NoRoomError(Exception):
    """The disk will not hold the file."""


def _reserve(path: Path, size: int) -> None:
    # Taken now: a disk found full while writing to mapped memory kills the process.
    try:
        with path.open("wb") as target:
            os.posix_fallocate(target.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _NoRoomError(f"no room for {size / _MEGABYTE:.0f} MB in {path.parent}") from error


def _done(progress: Path, path: Path, shape: tuple[int, int], stored: Any, identity: str) -> int:
    """Batches that an earlier run wrote; 0 where there is nothing to go on with."""
    try:
        found = read_json(progress)
        whole = path.stat().st_size == int(np.prod(shape)) * np.dtype(stored).itemsize
        return int(found["batches"]) if whole and found["identity"] == identity else 0
    except (EsciError, OSError, KeyError, TypeError, ValueError):
        return 0


def _identity(
    encoder: Encoder,
    sequences: Sequences,
    lower: int,
    options: TrainingOptions,
    device: torch.device,
) -> str:
    """A digest of everything the store depends on: frozen weights, texts, and how numbers round."""
    digest = sha256()
    configuration = {
        name: value
        for name, value in encoder.backbone.config.to_dict().items()
        if not name.startswith("_")  # where it was loaded from
    }
    about = [
        _FORMAT, lower, encoder.pooling, options.cache_precision, options.precision, device.type,
        torch.__version__, configuration,
    ]  # fmt: skip
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    for name, parameter in sorted(encoder.named_parameters()):
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().data)
    for part in (sequences.ids, sequences.segments, sequences.starts):
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
