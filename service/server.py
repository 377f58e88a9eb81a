"""Running the app: a port, one process or several, and how they stop."""

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from logging.config import dictConfig
from threading import Thread
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from models.errors import ConfigError, EsciError
from service.app import app_of, create_app
from service.log import CONFIGURATION
from service.serving import open_serving
from service.settings import Settings

log = logging.getLogger("service.server")

# Connections that the system accepts while the event loop is busy.
_BACKLOG: Final = 2_048
_POLL_SECONDS: Final = 0.02
# Workers load a release each before the first one answers.
_START_SECONDS: Final = 600


def serve(settings: Settings, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until a signal to stop; raises what is wrong with the release, the cache or the port.

    Once requests are answered, `on_ready` is called with the address, in a thread of its own.
    """
    # uvicorn does so too, but only after the release was opened, which has things to say.
    dictConfig(CONFIGURATION)
    with closing(_bind(settings)) as listener:
        if settings.workers == 1:
            run = _prepare_one(settings, listener)
        else:
            run = _prepare_many(settings, listener)
        _listen(settings, listener)
        Thread(target=_announce, args=(listener, on_ready), daemon=True).start()
        run()


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """Serve from a thread of this process while the block runs; gives the address."""
    with closing(_bind(settings)) as listener:
        server = uvicorn.Server(_configuration(create_app(settings), settings, log_config=None))
        _listen(settings, listener)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(_POLL_SECONDS)
            yield _address(listener)
        finally:
            server.should_exit = True
            thread.join()


def check_port(settings: Settings) -> None:
    """Raise now what binding would raise after a long preparation."""
    _bind(settings).close()


def _prepare_one(settings: Settings, listener: socket.socket) -> Callable[[], None]:
    server = uvicorn.Server(_configuration(create_app(settings), settings))

    def run() -> None:
        # uvicorn stops gracefully and then raises the signal again; several workers end with 0.
        before = signal.signal(signal.SIGTERM, lambda *_: None)
        try:
            server.run(sockets=[listener])
        finally:
            signal.signal(signal.SIGTERM, before)

    return run


def _prepare_many(settings: Settings, listener: socket.socket) -> Callable[[], None]:
    # Whatever is wrong is found here once, rather than by every worker.
    asyncio.run(open_serving(settings).close())
    configuration = _configuration(
        partial(_worker_app, settings), settings, factory=True, workers=settings.workers
    )

    def run() -> None:
        supervisor = Multiprocess(configuration, sockets=[listener])
        supervisor.run()
        if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
            raise ConfigError("a worker could not start; the log says why")

    return run


def _worker_app(settings: Settings) -> FastAPI:
    """The app of one worker of several; the supervisor gives up when it cannot be made."""
    try:
        return app_of(open_serving(settings, worker=str(os.getpid())))
    except EsciError as error:
        log.error(str(error))  # noqa: TRY400 - its words are enough
        sys.exit(STARTUP_FAILURE)


def _configuration(
    app: Any, settings: Settings, log_config: dict[str, Any] | None = CONFIGURATION, **more: Any
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=log_config,
        access_log=False,  # ours says more
        lifespan="on",
        ws="none",
        proxy_headers=False,  # no header of a client's decides anything
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        **more,
    )


def _bind(settings: Settings) -> socket.socket:
    """A socket that has the port: taken first, since loading a release for nothing takes longer."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with _in_words(settings):
            listener.bind(address)
    except socket.gaierror as error:
        raise ConfigError(
            f"ESCI_HOST is {settings.host!r}, which is no address: {error}"
        ) from error
    return listener


def _listen(settings: Settings, listener: socket.socket) -> None:
    with _in_words(settings):
        listener.listen(_BACKLOG)


@contextmanager
def _in_words(settings: Settings) -> Iterator[None]:
    where = f"port {settings.port} on {settings.host}"
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{where} is in use, perhaps by another service like this one; stop it, or choose "
                "another port with ESCI_PORT or --port (0 takes a free one)"
            ) from error
        raise ConfigError(f"{where} cannot be had: {error.strerror}") from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(listener: socket.socket, on_ready: Callable[[str], None] | None) -> None:
    """Say so when the first answer comes: the port is open before an app is behind it."""
    address = _address(listener)
    host, port = listener.getsockname()[:2]
    connection = HTTPConnection(host, port, timeout=_START_SECONDS)
    try:
        connection.request("GET", "/livez")
        connection.getresponse().read()
    except OSError:
        return  # stopped before it was ready
    finally:
        connection.close()
    log.info("serving", extra={"fields": {"address": address}})
    if on_ready:
        on_ready(address)
