"""The wire contract of HyperOracle, version 1.

Typed messages (`studies`, `strategies`, `jobs`, `inspection`), error codes (`errors`), the
search-space language (`space`), the hyper-state's layout and sketch (`hyper_state`), the binary
body (`codec`) and the version that both ends agree on (`version`). Besides, what both ends tell
people in the same way: a mistyped name (`names`), how far a command is (`terminal`). It depends on
pydantic alone.
"""

from hyperoracle_protocol.space import Categorical, Choice, Float, Int, Scale
from hyperoracle_protocol.version import PROTOCOL_HEADER, PROTOCOL_VERSION

__all__ = [
    "PROTOCOL_HEADER",
    "PROTOCOL_VERSION",
    "Categorical",
    "Choice",
    "Float",
    "Int",
    "Scale",
]
