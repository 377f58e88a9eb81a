"""The endpoints, thin: parse, call, answer."""

import asyncio
import time
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from models.labels import GAIN_TABLES, LABELS
from models.locales import LOCALES
from service import schemas
from service.classify import classify, prepare, to_answer
from service.errors import (
    BodyTooLargeError,
    BusyError,
    InternalError,
    InvalidRequestError,
    NotJsonError,
    documented,
)
from service.metrics import CONTENT_TYPE
from service.pages import docs_page, index_page
from service.serving import Serving

router = APIRouter()

# A body of this size is parsed and keyed in 0.3 ms, and in some 3 ms at the worst (ligatures that
# NFKC makes eighteen characters of, runs of combining marks); 8 KiB of those take 20 ms. A larger
# one leaves the event loop: a hop to a thread and back costs a tenth of a millisecond.
_INLINE_BYTES: Final = 2_048

# Routes that are no part of the API, yet of the service.
_PAGE: Final[dict[str, Any]] = {"methods": ["GET", "HEAD"], "include_in_schema": False}

_CLASSIFY_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"$ref": f"#/components/schemas/{model.__name__}"}
                        for model in schemas.REQUEST_MODELS
                    ]
                },
                "examples": dict(schemas.EXAMPLES),
            }
        },
    }
}


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


async def _json_body(request: Request, max_bytes: int) -> bytes:
    """The body, given up as soon as it is too large: nothing is parsed before that is known."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # Also keeps web pages of other origins from posting here: no simple form can send this type.
    if media_type != "application/json":
        raise NotJsonError(
            f"found Content-Type {media_type[:80]!r}, expected application/json; "
            "with curl: -H 'Content-Type: application/json'"
        )
    announced = request.headers.get("content-length", "0")
    body = bytearray()
    if int(announced) <= max_bytes:  # the server has checked that it is a number
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                break
        else:
            return bytes(body)
    raise BodyTooLargeError(
        f"the body has more than {max_bytes} bytes; split the request into several"
    )


@router.post(
    "/v1/classify",
    responses=documented(
        BodyTooLargeError, NotJsonError, InvalidRequestError, BusyError, InternalError
    ),
    openapi_extra=_CLASSIFY_BODY,
)
async def classify_pairs(request: Request) -> schemas.ClassifyAnswer:
    """Tell whether products are Exact, Substitute, Complement or Irrelevant answers to queries.

    Send one query with many products, or any pairs. Answers come in the order of the pairs.
    """
    started = time.perf_counter()
    serving, line = _serving(request), request.state.line
    release = serving.release
    line["release_id"] = release.release_id
    body = await _json_body(request, serving.settings.max_body_bytes)
    received = time.perf_counter()
    if len(body) <= _INLINE_BYTES:
        pairs, keys = prepare(body, serving.limits, release.release_id)
    else:
        pairs, keys = await asyncio.to_thread(prepare, body, serving.limits, release.release_id)
    prepared = time.perf_counter()
    answers = await classify(
        pairs, keys, release, serving.neighbourhoods, serving.cache, serving.queue
    )
    answers.phases_ms = {
        "receive": (received - started) * 1000,
        "prepare": (prepared - received) * 1000,
        **answers.phases_ms,
    }
    answer = to_answer(pairs, answers, release)
    answer.timings_ms["total"] = round((time.perf_counter() - started) * 1000, 3)
    hits = sum(answers.cached)
    serving.metrics.count_classification(len(pairs), hits, answers.forgone, answers.phases_ms)
    line.update(pairs=len(pairs), cache_hits=hits, phases_ms=answer.timings_ms)
    return answer


@router.get("/v1/models")
async def list_models(request: Request) -> schemas.ModelsAnswer:
    """The models behind the answers, and what each one costs."""
    release = _serving(request).release
    return schemas.ModelsAnswer(
        release_id=release.release_id, members=schemas.members_of(release.manifest)
    )


@router.get("/info")
async def info(request: Request) -> schemas.InfoAnswer:
    """What is being served, how it was made, and what one request may hold."""
    serving = _serving(request)
    manifest, settings = serving.release.manifest, serving.settings
    return schemas.InfoAnswer(
        release_id=serving.release.release_id,
        members=schemas.members_of(manifest),
        labels=list(LABELS),
        locales=list(LOCALES),
        gain_table=manifest.gain_table,
        gains=dict(GAIN_TABLES[manifest.gain_table]),
        metrics=manifest.metrics,
        data_fingerprint=manifest.data_fingerprint,
        versions=manifest.versions,
        limits=schemas.LimitsOut(
            max_pairs=settings.max_pairs,
            max_text_characters=settings.max_text_characters,
            max_body_bytes=settings.max_body_bytes,
            max_queued_pairs=settings.max_queued_pairs,
        ),
        product_vectors=schemas.product_vectors_of(serving.vectors),
        neighbourhoods=schemas.neighbourhoods_of(serving.neighbourhoods),
    )


@router.get("/livez")
@router.api_route("/livez", **_PAGE)  # monitors ask with HEAD
async def livez() -> schemas.AliveAnswer:
    """Whether the process runs; restart it when this does not answer."""
    return schemas.AliveAnswer(status="alive")


@router.get("/readyz")
@router.api_route("/readyz", **_PAGE)  # monitors ask with HEAD
async def readyz(request: Request) -> schemas.ReadyAnswer:
    """Whether to send traffic here: the port opens only once the release has passed its checks.

    A label cache in trouble is told and is no reason to stay away: answers are computed again.
    """
    serving = _serving(request)
    health = serving.cache.health()
    return schemas.ReadyAnswer(
        status="ready",
        release_id=serving.release.release_id,
        label_cache=schemas.CacheOut(
            store=health.store, healthy=health.healthy, troubles=health.troubles
        ),
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Counters and timings in Prometheus' text format."""
    return Response(_serving(request).metrics.exposition(), media_type=CONTENT_TYPE)


@router.api_route("/", **_PAGE, response_class=HTMLResponse)
async def index(request: Request) -> HTMLResponse:
    """What this is, for whoever opens it in a browser."""
    return HTMLResponse(index_page(str(request.base_url).rstrip("/"), _serving(request).release))


@router.api_route("/docs", **_PAGE, response_class=HTMLResponse)
async def docs(request: Request) -> HTMLResponse:
    """The API page."""
    return HTMLResponse(docs_page(request.app.openapi()))


@router.api_route("/openapi.json", **_PAGE)
async def openapi(request: Request) -> JSONResponse:
    """The API for generators of clients."""
    return JSONResponse(request.app.openapi())
