"""Environment variables to Settings: every knob of the service, with what each one trades."""

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from models.errors import ConfigError
from models.home import HOME_VARIABLE, home
from models.language.serving.engines import ENGINE_VARIABLE, THREADS_VARIABLE
from models.typed import STRICT

PREFIX: Final = "ESCI_"
# Read elsewhere: where everything lies, how language members answer, what training may take.
_NOT_OURS: Final = {HOME_VARIABLE, ENGINE_VARIABLE, THREADS_VARIABLE, "ESCI_THREADS"}

# Kubernetes and Docker tell every container where its neighbours are: a neighbour called `esci`
# becomes ESCI_SERVICE_HOST, ESCI_PORT=tcp://10.0.0.1:8000, ESCI_PORT_8000_TCP_ADDR and so on, one
# called `esci-redis` becomes ESCI_REDIS_SERVICE_HOST. Nobody set them, so nobody is to be told off.
_NEIGHBOUR: Final = re.compile(
    r"ESCI_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_NEIGHBOURS_PORT: Final = re.compile(r"ESCI_(\w+_)?PORT")
_PORT_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://.*")


@dataclass(frozen=True, config=STRICT)
class Settings:
    """What the service was told; field `max_pairs` comes from the variable ESCI_MAX_PAIRS."""

    # A release folder, or a registry whose champion is to be served.
    release: Path
    # Where `esci precompute` stored product vectors. With them, nothing is computed of a product
    # that a bi-encoder knows; they are mapped, so what is asked for comes into memory, and stays
    # there while there is room. Named here, they must be of this very release. Without a name,
    # those in the registry's folder `vectors` are used if they are, and whole; the log tells.
    vectors: Path | None = None

    # Where `esci precompute` stored neighbourhoods for graph members: a folder, a file that ends in
    # .sqlite, or redis://host:6379/0, which many machines share at a round trip per request. What
    # is not there is computed. Without a name, the registry's folder `states` is used if there is
    # one.
    states: str | None = None
    # The longest a request waits for Redis, once to learn which neighbourhoods are current and once
    # to look them up; what it waits for in vain is computed, at some milliseconds per product.
    states_timeout_ms: Annotated[float, Field(gt=0)] = 100.0

    # Only this machine may ask unless `allow_remote` says otherwise.
    host: str = "127.0.0.1"
    # 0 takes a free port, which the log names.
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    # There are no API keys, so whoever reaches the port may ask. Setting this says that the
    # network in front of the service lets in only those who may: a container must bind to all of
    # its own addresses to be reached at all, and docker-compose.yml publishes it on 127.0.0.1.
    allow_remote: bool = False
    # Processes, each with a release of its own in memory. One uses about one core, because the
    # work around numpy holds Python's lock; more want a shared cache (a file or Redis).
    workers: Annotated[int, Field(ge=1, le=256)] = 1

    # memory:// is fastest and forgotten at exit; sqlite:///file is shared by the workers of one
    # machine and survives a restart; redis:// is shared by many machines and costs a round trip.
    # Three slashes are followed by a relative path, four by an absolute one.
    cache: str = "sqlite:///.esci/cache/labels.sqlite"
    # Labels cannot go stale while the release, the texts and the stored neighbourhoods stay, all of
    # which are in the key. A long life saves work, a short one frees the room of pairs that nobody
    # asks for any more.
    cache_ttl_seconds: Annotated[float, Field(gt=0)] = 7 * 86_400.0
    # Room for labels; some 100 bytes each. Redis keeps its own budget, `maxmemory`.
    cache_megabytes: Annotated[float, Field(ge=0.25)] = 256.0
    # The longest a request waits for Redis, once to read and once to write. A short wait computes
    # again what a busy Redis knew, a long one makes an ailing Redis everybody's trouble.
    cache_timeout_ms: Annotated[float, Field(gt=0)] = 50.0

    # Pairs in one request. Many at once share the work of one query; but they answer together, so
    # the first waits for the last, and other requests wait for them all.
    max_pairs: Annotated[int, Field(ge=1)] = 1_000
    # Characters in one text. No member reads past a budget of a few hundred words, so more is
    # work without effect; catalogues do hold descriptions of several pages, though.
    max_text_characters: Annotated[int, Field(ge=1)] = 20_000
    # Bytes of one body, which is held in memory while it arrives.
    max_body_bytes: Annotated[int, Field(ge=1)] = 8 * 2**20

    # Requests computed at the same time. More than the cores makes each slower and none faster.
    max_concurrent: Annotated[int, Field(ge=1)] = 2
    # Pairs accepted and not yet answered by the ensemble. A low limit refuses early (429, come
    # again), a high one answers late. A request that finds nothing queued is always accepted.
    max_queued_pairs: Annotated[int, Field(ge=1)] = 4_000

    # How long requests in flight may take to end after the signal to stop.
    shutdown_seconds: Annotated[int, Field(ge=0)] = 10

    def __post_init__(self) -> None:
        if not (self.allow_remote or is_loopback(self.host)):
            raise ConfigError(
                f"{PREFIX}HOST is {self.host!r}, which other machines can reach, and the service "
                "asks for no API keys; expected a loopback address such as 127.0.0.1. Set "
                f"{PREFIX}ALLOW_REMOTE=1 if the network in front of it lets in only who may ask"
            )

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, **given: Any
    ) -> "Settings":
        """Settings from variables named ESCI_<FIELD>; what is `given` and not None goes first.

        Without ESCI_RELEASE the registry in ESCI_HOME is served, and labels are cached there.
        """
        known = {PREFIX + field.name.upper(): field.name for field in fields(cls)}
        found = {
            name
            for name, value in environment.items()
            # ESCI_TRAIN__SEED and the like configure steps of the pipelines.
            if name.startswith(PREFIX) and "__" not in name and not _tells_of_neighbour(name, value)
        }
        if unknown := sorted(found - known.keys() - _NOT_OURS):
            raise ConfigError(
                f"{unknown[0]} is set and means nothing; "
                f"known variables: {', '.join([*sorted(_NOT_OURS), *known])}"
            )
        folder = home(environment)
        values: dict[str, Any] = {
            "release": folder,
            "cache": f"sqlite:///{quote(os.fsencode(folder / 'cache' / 'labels.sqlite'))}",
            **{known[name]: environment[name] for name in found - _NOT_OURS},
            **{name: value for name, value in given.items() if value is not None},
        }
        try:
            return cls(**values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = str(problem["loc"][0])
            raise ConfigError(
                f"{PREFIX}{name.upper()} is {values.get(name)!r}; {problem['msg']}"
            ) from error


def _tells_of_neighbour(name: str, value: str) -> bool:
    """Whether a variable is an orchestrator's about another container, and no setting of ours."""
    if _NEIGHBOUR.fullmatch(name):
        return True
    return bool(_NEIGHBOURS_PORT.fullmatch(name) and _PORT_ADDRESS.fullmatch(value))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost is not trusted."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
