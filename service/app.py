"""The app factory: everything that is wrong with a release or a setting is raised here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from models.errors import EsciError
from service.errors import (
    InternalError,
    MethodNotAllowedError,
    NoSuchPathError,
    problem_response,
    status_of,
)
from service.middleware import Observed, log_fault
from service.openapi import describe
from service.routes import router
from service.serving import Serving, open_serving
from service.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """An app that serves the release of `settings`, which is verified before this returns."""
    return app_of(open_serving(settings))


def app_of(serving: Serving) -> FastAPI:
    """An app around what it serves; closes it when it stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await serving.close()

    app = FastAPI(
        title="ESCI ensemble",
        summary="Tells whether a product is an Exact, Substitute, Complement or Irrelevant answer "
        "to a search query.",
        version=version("esci-ensemble"),
        lifespan=lifespan,
        openapi_url=None,  # FastAPI's route would not be counted by its path; ours is
        docs_url=None,  # FastAPI's page loads scripts from elsewhere; ours needs no network
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat whatever Host the client named
    )
    app.state.serving = serving
    app.include_router(router)
    app.add_middleware(Observed, metrics=serving.metrics)
    app.add_exception_handler(EsciError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_error)

    @cache
    def openapi() -> dict[str, Any]:
        return describe(app, serving.settings)

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's manual has it
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EsciError)  # noqa: S101 - what it is registered for
    request_id: str = request.state.request_id
    if status_of(type(error)) == HTTPStatus.INTERNAL_SERVER_ERROR:
        # A member that fails names files and texts: for the log, not for the client.
        log_fault(request_id)
        error = InternalError(f"a fault of the service; its log says more under {request_id}")
    return problem_response(error, request_id)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    known = {
        404: NoSuchPathError("nothing is served at this path; the API is described at /docs"),
        405: MethodNotAllowedError("this path does not take this method; see Allow, or /docs"),
    }
    response = problem_response(known[error.status_code], request.state.request_id)
    response.headers.update(error.headers or {})
    return response
