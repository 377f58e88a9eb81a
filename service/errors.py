"""Errors of the service, and the one table that turns any error into an HTTP status.

The API page is generated from the same table, so what it documents is what is answered: problem
documents after RFC 9457.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.responses import Response

from models.errors import EsciError, OverloadedError, RequestError

PROBLEM_JSON: Final = "application/problem+json"


class InvalidRequestError(RequestError):
    """A body that is not what was asked for, with every trouble and its place in the body."""

    def __init__(self, complaints: Sequence["Complaint"]) -> None:
        self.complaints = tuple(complaints)
        first = self.complaints[0]
        super().__init__(f"{first.pointer}: {first.detail}" if first.pointer else first.detail)


class NotJsonError(RequestError):
    """A body that is sent as something else than JSON."""


class BodyTooLargeError(RequestError):
    """A body of more bytes than are accepted."""


class BusyError(OverloadedError):
    """The queue is full; says when to come again."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NoSuchPathError(RequestError):
    """A path that leads nowhere."""


class MethodNotAllowedError(RequestError):
    """A path that exists, asked with a method it does not have."""


class InternalError(EsciError):
    """A fault of ours. What exactly is in the log, under the request id, and not in the answer."""


# The nearest class counts, so a subclass may have a status of its own.
STATUS: Final[Mapping[type[EsciError], int]] = MappingProxyType(
    {
        RequestError: 422,
        InvalidRequestError: 422,
        NoSuchPathError: 404,
        MethodNotAllowedError: 405,
        BodyTooLargeError: 413,
        NotJsonError: 415,
        OverloadedError: 429,
        EsciError: 500,
        InternalError: 500,
    }
)


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong with a body, and where: a JSON pointer such as #/products/0/title."""

    pointer: str
    detail: str


class ProblemComplaint(BaseModel):
    """One of several troubles in a body."""

    pointer: str = Field(description="Where in the body, as a JSON pointer.")
    detail: str = Field(description="What was found and what was expected.")


class Problem(BaseModel):
    """A problem document after RFC 9457."""

    type: str = Field(description="Names the kind of problem; stays the same between versions.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was found, what was expected, what to do next.")
    request_id: str = Field(description="Names this request in the log of the service.")
    errors: list[ProblemComplaint] | None = Field(
        default=None, description="Every trouble with its place, where a body is at fault."
    )


def status_of(error: type[EsciError]) -> int:
    """The status of the nearest class in the table."""
    return next(STATUS[kind] for kind in error.__mro__ if kind in STATUS)


def problem_response(error: EsciError, request_id: str) -> Response:
    """The problem document that answers `error`."""
    status = status_of(type(error))
    document: dict[str, Any] = {
        "type": _type_of(type(error)),
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": str(error),
        "request_id": request_id,
    }
    headers = {}
    if isinstance(error, InvalidRequestError):
        document["errors"] = [vars(complaint) for complaint in error.complaints]
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, BodyTooLargeError):
        headers["Connection"] = "close"  # the rest of the body is not read
    return Response(to_json(document), status, headers, PROBLEM_JSON)


def documented(*errors: type[EsciError]) -> dict[int | str, dict[str, Any]]:
    """What a route says on the API page about the errors it may answer with."""
    return {
        status_of(error): {
            "description": (error.__doc__ or "").split("\n", 1)[0],
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for error in errors
    }


def _type_of(error: type[EsciError]) -> str:
    """BodyTooLargeError → urn:esci:problem:body-too-large."""
    words = re.findall("[A-Z][a-z]*", error.__name__.removesuffix("Error"))
    return "urn:esci:problem:" + "-".join(words).lower()
