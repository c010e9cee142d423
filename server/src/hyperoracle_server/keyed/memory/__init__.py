"""The episodic memory of a study: Eq. 3 and 4 on top of exact and approximate search.

``EpisodicMemory`` is what the rest of the server uses; everything else serves it::

    EpisodicMemory (episodic)      reads and writes
    ├─ EntryTable (entry_table)    entries in a ring of slots
    │  └─ KeyStore (base)          keys, norms, groups
    ├─ DistinctKeys (distinct_keys)  each key once, for the shared reading
    └─ SwitchingSearch (switching) exact, or graphs where they pay
       ├─ ExactSearch (exact) ─ GroupTables (tables)
       └─ HnswSearch (hnsw)
"""

from hyperoracle_server.keyed.memory.base import MemorySettings, Reading, WriteEffect
from hyperoracle_server.keyed.memory.episodic import EpisodicMemory
from hyperoracle_server.keyed.memory.hnsw import HnswSettings
from hyperoracle_server.keyed.memory.switching import IndexBuild
from hyperoracle_server.strategies.decisions import Entries

__all__ = [
    "Entries",
    "EpisodicMemory",
    "HnswSettings",
    "IndexBuild",
    "MemorySettings",
    "Reading",
    "WriteEffect",
]
