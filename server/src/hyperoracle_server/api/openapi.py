"""What browsers and readers of the calls get: the OpenAPI document, and the page `/docs`.

What the document says beside what FastAPI finds out by itself, and what a browser may do with a
page that this oracle serves.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import HTMLResponse

from hyperoracle_protocol.errors import PROBLEM_MEDIA_TYPE, Problem


@functools.cache  # each application of a process has the same, and making one takes milliseconds
def self_contained(model: type[BaseModel]) -> dict[str, Any]:
    """A message's JSON schema without references, so that it can stand anywhere in a document.

    It is the same object at each call, and not to be changed.

    Args:
        model: that does not contain itself.
    """
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return resolved(definitions[part["$ref"].rpartition("/")[2]])
        return {name: resolved(value) for name, value in part.items()}

    found: dict[str, Any] = resolved(schema)
    return found


def _problem(description: str) -> dict[str, Any]:
    content = {PROBLEM_MEDIA_TYPE: {"schema": self_contained(Problem)}}
    return {"description": description, "content": content}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": _problem("Refused: what was expected and what came."),
    503: _problem("The store cannot be used now; nothing was acknowledged."),
}
"""The answers that every call may get (`problems`)."""


STRICT_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)
"""What an HTML page without a policy of its own may do: load what this oracle serves."""

_OF_PAGES = [
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),  # of browsers that do not know frame-ancestors
    (b"cross-origin-opener-policy", b"same-origin"),
]
_OF_ALL = [(b"x-content-type-options", b"nosniff")]
_POLICY = b"content-security-policy"


def security_headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What is added to an answer with these headers (names in lower case)."""
    given = dict(headers)
    if not given.get(b"content-type", b"").startswith(b"text/html"):
        return _OF_ALL
    policy = [] if _POLICY in given else [(_POLICY, STRICT_POLICY.encode())]
    return [*_OF_ALL, *_OF_PAGES, *policy]


def content_security_policy(page: str) -> str:
    """The narrowest policy with which a page works as it is written.

    Scripts and styles come from the places that its tags name; its own scripts are known by their
    hashes.

    Args:
        page: HTML, without event handlers in attributes.
    """
    scripts = {_origin(url) for url in re.findall(r'<script[^>]+src="([^"]+)"', page)}
    styles = {_origin(url) for url in re.findall(r'<link[^>]+stylesheet"[^>]+href="([^"]+)"', page)}
    images = {_origin(url) for url in re.findall(r'<link[^>]+icon"[^>]+href="([^"]+)"', page)}
    inline = re.findall(r"<script(?![^>]+src=)[^>]*>(.*?)</script>", page, flags=re.DOTALL)
    scripts |= {f"'sha256-{_sha256(script)}'" for script in inline}
    styles.add("'unsafe-inline'")  # a script that draws sets styles too
    images |= {"'self'", "data:"}
    allowed = {
        "default-src": {"'none'"},
        "script-src": scripts or {"'none'"},
        "style-src": styles,
        "img-src": images,
        "connect-src": {"'self'"},
        "base-uri": {"'none'"},
        "form-action": {"'none'"},
        "frame-ancestors": {"'none'"},
    }
    return "; ".join(f"{what} {' '.join(sorted(sources))}" for what, sources in allowed.items())


def add_docs(app: FastAPI) -> None:
    """Serve the page of the calls at `/docs` with a policy of its own."""
    page = get_swagger_ui_html(openapi_url="openapi.json", title="HyperOracle: the calls")
    text = bytes(page.body).decode()
    headers = {"content-security-policy": content_security_policy(text)}

    @app.get("/docs", include_in_schema=False)
    async def docs(_request: Request) -> HTMLResponse:
        return HTMLResponse(text, headers=headers)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else "'self'"


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
