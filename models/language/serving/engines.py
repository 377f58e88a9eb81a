"""What runs an exported network: onnxruntime, or OpenVINO behind the same face."""

import os
from pathlib import Path
from threading import local
from typing import Any, Final, Literal, Protocol, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from models.cores import read_cores
from models.errors import ConfigError, ReleaseError, missing_module
from models.language.reading.sequences import Batch

Engine: TypeAlias = Literal["onnxruntime", "openvino", "torch"]
ENGINES: Final[tuple[Engine, ...]] = get_args(Engine)
ENGINE_VARIABLE: Final = "ESCI_LANGUAGE_ENGINE"
THREADS_VARIABLE: Final = "ESCI_LANGUAGE_THREADS"


class Session(Protocol):
    """An open network: a batch in, a row per text out. Many threads may call it at once."""

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """The rows of the texts of `batch`, in their order."""
        ...


def asked_engine(engine: str | None = None) -> Engine:
    """The engine named, or else by the environment, or else onnxruntime."""
    name = engine or os.environ.get(ENGINE_VARIABLE) or "onnxruntime"
    for known in ENGINES:
        if name == known:
            return known
    raise ConfigError(
        f"no engine {name!r} for language models; known: {', '.join(ENGINES)} "
        f"(see {ENGINE_VARIABLE})"
    )


def asked_threads(threads: int = 0) -> int:
    """The threads asked for, or else by the environment, or else one per core that is ours.

    A container whose quota is two of 64 cores has two: more threads would wait for each other.
    """
    given = str(threads or os.environ.get(THREADS_VARIABLE) or 0)
    if not given.isdecimal():
        raise ConfigError(f"{THREADS_VARIABLE} {given!r}: expected a whole number, 0 for all cores")
    return int(given) or read_cores().usable


class OnnxRuntimeSession:
    """A network run by onnxruntime on the CPU, `threads` to a batch."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Both keep memory for every shape they have seen, and shapes are many.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        # Threads that wait by spinning take the cores from whatever else answers a request.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # What our graphs gain from fusing they have; the fusions beyond the basic ones were
        # measured slower (adding and normalising in one operation: seven times).
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.log_severity_level = 4  # errors are raised, and need no line of their own
        try:
            self._session = ort.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # an exception per cause, with no root of its own
            raise ReleaseError(f"{path} is no network that onnxruntime opens: {error}") from error
        self._inputs = [given.name for given in self._session.get_inputs()]

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """The rows of the texts of `batch`, in their order."""
        (rows,) = self._session.run(None, {name: getattr(batch, name) for name in self._inputs})
        return cast(NDArray[np.float32], rows)


class OpenVinoSession:
    """A network run by OpenVINO on the CPU in float32: `batches` at a time on `threads` in all."""

    def __init__(self, path: Path, threads: int, batches: int) -> None:
        try:
            import openvino
        except ModuleNotFoundError as error:
            raise missing_module(error, "openvino") from error
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": batches,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._network: Any = openvino.Core().compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise ReleaseError(f"{path} is no network that OpenVINO opens: {error}") from error
        self._inputs = [given.get_any_name() for given in self._network.inputs]
        self._requests = local()  # a request serves one thread at a time

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """The rows of the texts of `batch`, in their order."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._network.create_infer_request()
        found = self._requests.own.infer({name: getattr(batch, name) for name in self._inputs})
        return np.array(found[self._network.outputs[0]], np.float32)
