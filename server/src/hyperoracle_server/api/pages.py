"""Pages for people: what a browser may do with them, and the page of the calls, `/docs`."""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse

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
