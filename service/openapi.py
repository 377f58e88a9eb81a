"""The API description: FastAPI's, the bodies that we parse ourselves, the limits."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from service.errors import Problem
from service.schemas import REQUEST_MODELS
from service.settings import Settings

_REFERENCE: Final = "#/components/schemas/{model}"


def describe(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """The OpenAPI document of `app`."""
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    _, ours = models_json_schema(
        [(Problem, "serialization"), *((model, "validation") for model in REQUEST_MODELS)],
        ref_template=_REFERENCE,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(ours["$defs"])
    schemas["QueryRequest"]["properties"]["products"]["maxItems"] = settings.max_pairs
    schemas["PairsRequest"]["properties"]["pairs"]["maxItems"] = settings.max_pairs
    for name, texts in {
        "QueryRequest": ("query",),
        "PairIn": ("query",),
        "ProductIn": ("title", "description", "bullets", "brand", "colour"),
    }.items():
        for text in texts:
            schemas[name]["properties"][text]["maxLength"] = settings.max_text_characters
    return document
