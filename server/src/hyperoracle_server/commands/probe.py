"""`python -m hyperoracle_server.commands.probe`: whether the oracle of this container is ready.

Exit code 0 if it is, 1 with a line that says why not. It reads the server's environment variables
and imports nothing heavy: container engines call it every few seconds.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

_SECONDS = 3.0


def ready_url(environment: Mapping[str, str]) -> str:
    """Where `/readyz` is, going by the server's environment variables."""
    scheme = "https" if environment.get("HYPERORACLE_TLS_CERTIFICATE") else "http"
    host = environment.get("HYPERORACLE_HOST") or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is replaced
    port = environment.get("HYPERORACLE_PORT") or "8080"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/readyz"


def why_not_ready(url: str) -> str | None:
    """None if the oracle at this `/readyz` is ready, otherwise one line that says why not."""
    unchecked = ssl.create_default_context()  # the certificate names another host than loopback
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unchecked)
    )
    try:
        with opener.open(url, timeout=_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return f"{url} answered {error.code}: {_checks(error.read())}"
    except OSError as error:
        return f"{url} does not answer: {error}"


def _checks(body: bytes) -> str:
    try:
        found = json.loads(body)["checks"]
        return "; ".join(f"{name}: {text}" for name, text in found.items() if text != "ok")
    except (ValueError, KeyError, TypeError, AttributeError):
        return body[:200].decode("utf-8", "replace")


if __name__ == "__main__":
    reason = why_not_ready(ready_url(os.environ))
    if reason is not None:
        print(reason, file=sys.stderr)
        sys.exit(1)
