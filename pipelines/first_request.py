"""Shows a person how to ask a service that has just started: an address, a curl, an answer."""

import json
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from rich.table import Table

from models.errors import NetworkError
from models.labels import LABEL_NAMES
from models.release import Probe, read_probes
from pipelines.console import out, print_json


def print_first_answer(address: str, release: Path) -> None:
    """Ask for one of the release's probe pairs and print the request and the answer as JSON."""
    body = _body(read_probes(release)[0])
    print_json({"request": body, "answer": _post(f"{address}/v1/classify", body)})


def show_first_request(address: str, release: Path) -> None:
    """Ask the service at `address` for one of the release's probe pairs and print all three."""
    body = _body(read_probes(release)[0])
    answer = _post(f"{address}/v1/classify", body)
    shown = json.dumps(body, ensure_ascii=False)
    out.print(f"[bold]serving release {answer['release_id']} on[/] {address}")
    out.print(f"documentation: {address}/docs\n\ntry it:", soft_wrap=True)
    curl = f"curl -s {address}/v1/classify -H 'content-type: application/json' -d {quote(shown)}"
    out.print(f"  {curl}\n", markup=False, soft_wrap=True)
    out.print(_table(body, answer))


def _body(probe: Probe) -> dict[str, Any]:
    product = {name: text for name, text in probe.product.items() if text}
    product.setdefault("title", "")
    return {"query": probe.query, "locale": probe.locale, "products": [product]}


def _post(url: str, body: dict[str, Any]) -> Any:
    data = json.dumps(body).encode()
    request = Request(url, data, {"content-type": "application/json"})  # noqa: S310 - our own
    # A proxy of the environment would be asked for our own loopback address, and fail.
    directly = build_opener(ProxyHandler({}))
    try:
        with directly.open(request, timeout=30) as response:
            return json.load(response)
    except (URLError, TimeoutError) as error:
        raise NetworkError(f"{url} did not answer the first request: {error}") from error


def _table(body: dict[str, Any], answer: dict[str, Any]) -> Table:
    result, product = answer["results"][0], body["products"][0]
    table = Table(show_header=False, title="one classified pair", title_justify="left")
    table.add_row("query", f"{body['query']} ({body['locale']})")
    table.add_row("product", f"{product['product_id']} {product['title']}")
    table.add_row("label", f"[bold green]{result['label']}[/] {result['label_name']}")
    shares = (f"{name} {result['probabilities'][label]:.3f}" for label, name in LABEL_NAMES.items())
    table.add_row("probabilities", ", ".join(shares))
    return table
