"""The served form of a network: texts as token ids in, a row of numbers per text out.

It needs numpy and an engine; torch only where the engine is torch.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError, missing_module
from models.language.reading.sequences import Sequences
from models.language.serving.batches import plan, run_plan
from models.language.serving.doubt import DoubtingSession
from models.language.serving.engines import (
    OnnxRuntimeSession,
    OpenVinoSession,
    Session,
    asked_engine,
    asked_threads,
)
from models.language.serving.manifest import (
    FormReport,
    fastest_variant,
    read_manifest,
    write_manifest,
)
from models.language.serving.options import EXACT

if TYPE_CHECKING:
    from torch import nn

_TORCH_BATCHES: Final = 16  # times larger: a GPU wants many texts at once


class Form:
    """An exported network, ready to answer; many threads may ask it at once."""

    def __init__(
        self,
        folder: Path,
        report: FormReport,
        *,
        engine: str | None = None,
        threads: int = 0,
        trained: "Callable[[], nn.Module] | None" = None,
    ) -> None:
        self.report = report
        self.engine = asked_engine(engine)
        self.threads = asked_threads(threads)
        if self.engine == "torch" and trained is None:
            raise ConfigError(
                "the engine is torch and no trained network is at hand to run; "
                "expected the engine onnxruntime or openvino here"
            )
        self._folder = folder
        self._trained = trained or _no_network
        self._milliseconds = {
            name: exported.milliseconds for name, exported in report.variants.items()
        }
        self._sessions: dict[tuple[str, bool], Session] = {}
        self._lock = RLock()

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        engine: str | None = None,
        threads: int = 0,
        trained: "Callable[[], nn.Module] | None" = None,
    ) -> Self:
        """The form in `folder`, which must stay where it is: variants are opened when needed.

        Engine and threads are those given, or else what ESCI_LANGUAGE_ENGINE and
        ESCI_LANGUAGE_THREADS say, or else onnxruntime on every core. `trained` opens the trained
        network, for the engine torch.
        """
        return cls(folder, read_manifest(folder), engine=engine, threads=threads, trained=trained)

    def save(self, folder: Path) -> None:
        """Copy every file to `folder`, to the byte; nothing is measured again."""
        folder.mkdir(parents=True, exist_ok=True)
        if folder.resolve() != self._folder.resolve():
            for exported in self.report.variants.values():
                for name in exported.digests:
                    shutil.copyfile(self._folder / name, folder / name)
        write_manifest(folder, self.report)

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of what was exported."""
        return tuple(self.report.variants)

    def variant_for(self, texts: int) -> str:
        """The variant that answers a request of so many texts: what was measured fastest.

        The measurement is onnxruntime's; the other engines run float32.
        """
        if self.engine != "onnxruntime":
            return EXACT
        return fastest_variant(self._milliseconds, texts)

    def known(self, variant: str) -> str:
        """What runs where `variant` is asked for: float32 where it is not there.

        No clock has a say in it; the engine has, for those besides onnxruntime run float32 alone.
        """
        if self.engine != "onnxruntime" or variant not in self.report.variants:
            return EXACT
        return variant

    def open(self, *variants: str) -> None:
        """Open these variants, or else all that some number of texts asks for.

        A request that comes later does not have to wait for it.
        """
        asked = {
            self.variant_for(shape) for of in self._milliseconds.values() for shape in (1, *of)
        }
        for variant in variants or asked:
            for whole in (True, False):
                self._session(variant, whole)

    def run(
        self, texts: Sequences, variant: str | None = None, *, alike_up_to: int = 0
    ) -> NDArray[np.float32]:
        """A row per text, shape (texts, width), in the order of `texts`.

        A row depends on its own text, and on the others only in that their number chooses the
        variant, unless one is named; and in the last bits, unless `alike_up_to` (see `run_plan`)
        says how many tokens a text may have. Where int8 is nearly in doubt, it is the last bits
        that choose between it and float32.
        """
        width, pad_id = self.report.width, self.report.pad_id
        if not len(texts):
            return np.empty((0, width), np.float32)
        workers, tokens = self.threads, self.report.batch_tokens
        if self.engine == "torch":
            workers, tokens = 1, tokens * _TORCH_BATCHES
        batches = plan(texts, tokens, workers)
        session = self._session(variant or self.variant_for(len(texts)), len(batches) == 1)
        return run_plan(
            session,
            texts,
            batches,
            width=width,
            pad_id=pad_id,
            workers=workers,
            alike_up_to=alike_up_to,
        )

    def _session(self, variant: str, whole: bool) -> Session:
        """The open session of a variant, with all threads to a batch or one; opened when needed.

        Batches that are side by side, one thread each, wait for each other only at the end; a
        batch alone has all threads.
        """
        if variant not in self.report.variants:
            raise ConfigError(f"no variant {variant!r}; there are {', '.join(self.variants)}")
        if self.engine != "onnxruntime":
            variant = EXACT
        key = (variant, whole or self.threads == 1 or self.engine == "torch")
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = self._opened(*key)
            return self._sessions[key]

    def _opened(self, variant: str, whole: bool) -> Session:
        if self.engine == "torch":
            return self._torch()
        exported = self.report.variants[variant]
        path = self._folder / exported.file
        if self.engine == "openvino":
            return OpenVinoSession(path, self.threads, 1 if whole else self.threads)
        session = OnnxRuntimeSession(path, self.threads if whole else 1)
        if not exported.doubt:
            return session
        return DoubtingSession(session, self._session(EXACT, whole), exported.doubt)

    def _torch(self) -> Session:
        try:
            from models.language.serving.torch_engine import TorchSession
        except ModuleNotFoundError as error:
            raise missing_module(error, "training") from error
        return TorchSession(self._trained())


def _no_network() -> "nn.Module":
    raise ConfigError("no trained network is at hand")
