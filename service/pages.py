"""Two pages for people: what this is, and the API with a form to try it. They load nothing."""

import json
from collections.abc import Iterator
from html import escape
from typing import Any, Final

from models.release import Release
from service.schemas import EXAMPLES

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
pre, textarea { font: 14px/1.4 monospace; background: #f4f4f4; color: #222; padding: .75rem;
  overflow-x: auto }
textarea { width: 100%; box-sizing: border-box; border: 1px solid #ccc }
td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0 }
h2 { margin-top: 2.5rem }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #ddd } a { color: #8ab4f8 }
}
"""

# Textareas hold the examples; the answer is written as text, never as HTML.
_SCRIPT: Final = """
for (const form of document.forms) form.addEventListener("submit", async event => {
  event.preventDefault();
  const answer = await fetch(form.dataset.path, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: form.elements.body.value,
  });
  form.querySelector("pre").textContent =
    answer.status + " " + JSON.stringify(await answer.json(), null, 2);
});
"""


def index_page(address: str, release: Release) -> str:
    """What is served, and a command to try."""
    example = EXAMPLES["one query, many products"]["value"]
    body = json.dumps(example, ensure_ascii=False).replace("'", "'\\''")
    curl = f"curl {address}/v1/classify \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'"
    return _page(
        "ESCI ensemble",
        f"""<p>Tells whether a product is an <b>E</b>xact, <b>S</b>ubstitute, <b>C</b>omplement or
<b>I</b>rrelevant answer to a search query.</p>
<p>Serving release <code>{escape(release.release_id)}</code>, members:
{escape(", ".join(release.ensemble.members_used))}.</p>
<pre>{escape(curl)}</pre>
<p><a href="docs">API, with a form to try it</a> · <a href="openapi.json">OpenAPI</a> ·
<a href="info">release</a> · <a href="v1/models">models</a> · <a href="metrics">metrics</a> ·
<a href="readyz">readiness</a></p>""",
    )


def docs_page(document: dict[str, Any]) -> str:
    """The API as its OpenAPI document describes it."""
    sections = [
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    shapes = [_schema(name, schema) for name, schema in document["components"]["schemas"].items()]
    return _page(
        f"{document['info']['title']} {document['info']['version']}",
        f"<p>{escape(document['info']['summary'])}</p>"
        '<p>For generators of clients: <a href="openapi.json">openapi.json</a>.</p>'
        + "".join(sections)
        + "<h2>Shapes</h2>"
        + "".join(shapes)
        + f"<script>{_SCRIPT}</script>",
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>",
        f"<p>{escape(operation.get('description', ''))}</p>",
        "<table>",
        *(
            f"<tr><th>{status}<td>{escape(answer['description'])}<td>{_content(answer)}"
            for status, answer in sorted(operation["responses"].items())
        ),
        "</table>",
    ]
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        parts.append(f"<p>Takes {_link(content['schema'])}.</p>")
        parts += [
            f'<form data-path="{escape(path.removeprefix("/"))}"><p>{escape(one["summary"])}</p>'
            f'<textarea name="body" rows="14">{_pretty(one["value"])}</textarea>'
            "<button>Try it</button><pre></pre></form>"
            for one in content["examples"].values()
        ]
    return "\n".join(parts)


def _content(answer: dict[str, Any]) -> str:
    return "; ".join(
        f"<code>{escape(media_type)}</code> {_link(content.get('schema', {}))}"
        for media_type, content in answer.get("content", {}).items()
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{escape(key)}</code><td>{'required' if key in required else 'optional'}"
        f"<td>{_link(value)}<td>{escape(value.get('description', ''))}"
        for key, value in schema.get("properties", {}).items()
    )
    title = f'<h3 id="{escape(name)}"><code>{escape(name)}</code></h3>'
    return f"{title}<p>{escape(schema.get('description', ''))}</p><table>{rows}</table>"


def _link(schema: dict[str, Any]) -> str:
    """A type in a few words, linked to its shape where it has one."""
    if reference := schema.get("$ref"):
        name = escape(reference.rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    if alternatives := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(_link(one) for one in alternatives)
    if "items" in schema:
        return " ".join(["list of", _link(schema["items"]), *_limits(schema)])
    if "enum" in schema:
        return escape(", ".join(str(value) for value in schema["enum"]))
    return " ".join([escape(str(schema.get("const", schema.get("type", "")))), *_limits(schema)])


def _limits(schema: dict[str, Any]) -> Iterator[str]:
    for key, words in {
        "minItems": "at least {}",
        "maxItems": "at most {}",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
    }.items():
        if key in schema:
            yield f"({words.format(schema[key])})"


def _pretty(value: Any) -> str:
    return escape(json.dumps(value, indent=2, ensure_ascii=False))


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1>{body}</html>"
    )
