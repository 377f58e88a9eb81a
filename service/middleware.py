"""Around every request: its id, its log line, its counts, and an answer when all else failed."""

import logging
import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InternalError, problem_response
from service.metrics import Metrics

log = logging.getLogger("service.request")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")  # anything else could forge log lines
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Nobody gets it; it tells the log that the client went away first.
_CLIENT_GONE: Final = 499


class Observed:
    """Runs the app, and leaves one log line and the counts behind.

    Routes add what only they know to `request.state.line`.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(Headers(scope=scope))
        line: dict[str, Any] = {}
        scope.setdefault("state", {}).update(line=line, request_id=request_id)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            status = _CLIENT_GONE
        except Exception:
            log_fault(request_id)
            if status:  # the answer had begun; cutting it short is all that can be done
                raise
            fault = InternalError(f"a fault of the service; its log says more under {request_id}")
            await problem_response(fault, request_id)(scope, receive, answer)
        finally:
            self._record(scope, request_id, status, time.perf_counter() - started, line)

    def _record(
        self,
        scope: Scope,
        request_id: str,
        status: int,
        seconds: float,
        line: MutableMapping[str, Any],
    ) -> None:
        # A closed set: what a client made up is not counted apart, or it would fill the memory.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.add(1, route, method, str(status))
        self._metrics.seconds.observe(seconds, route)
        fields = {
            "request_id": request_id,
            "method": method,
            "route": route,
            "status": status,
            "total_ms": round(seconds * 1000, 3),
            **line,
        }
        log.info("request", extra={"fields": fields})


def log_fault(request_id: str) -> None:
    """Log the exception being handled, under the id that the client was given."""
    log.exception("a request failed", extra={"fields": {"request_id": request_id}})


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
