"""The protocol's version and how two programs agree on one.

Each side sends the version it speaks in the header `HyperOracle-Protocol` as `MAJOR.MINOR`.
The same major version is compatible: readers ignore fields they do not know. A request without
the header is taken as version 1 (so that `curl` works).
"""

from __future__ import annotations

PROTOCOL_VERSION = "1.0"
PROTOCOL_HEADER = "hyperoracle-protocol"


def is_compatible(offered: str | None) -> bool:
    """Whether a peer that offers this version can be talked to.

    Args:
        offered: the header's value, or None where the header is absent.
    """
    if offered is None:
        return True
    major, _, minor = offered.strip().partition(".")
    return major == PROTOCOL_VERSION.partition(".")[0] and (minor == "" or minor.isdigit())
