"""What is written down of what a caller says: no token, whichever place it came in.

Logs, the audit record and traces are read by more people, and kept longer, than a token may be
known. What is here is used by all three.
"""

from __future__ import annotations

import re

LONGEST_PATH = 256
"""Characters of a path that are written down."""

_AFTER_TOKENS = re.compile(r"(?<=/tokens/).+", re.IGNORECASE | re.DOTALL)
_TOKEN = re.compile(r"(ho_[0-9a-f]{12})_[A-Za-z0-9_-]{20,}")


def redacted(text: str) -> str:
    """The text without the secrets of this project's tokens; their ids stay."""
    return _TOKEN.sub(r"\1_...", text) if "ho_" in text else text


def shown_path(path: str) -> str:
    """A request's path as it is written down.

    Which token a call is about may have been said by the token itself, or by a secret that no
    pattern knows (an administrator's of the environment): it is left out.
    """
    shown = redacted(_AFTER_TOKENS.sub("...", path))
    return shown if len(shown) <= LONGEST_PATH else shown[:LONGEST_PATH] + "..."
