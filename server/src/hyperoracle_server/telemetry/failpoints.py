"""Places at which a test may end the process, as `kill -9` at that very moment would.

Nothing here ends anything, and no setting does: a test that wants it gives a hook
(`on_passing`), which is called with a place's name. Without one a failpoint costs one comparison.
"""

from __future__ import annotations

from collections.abc import Callable

FAILPOINTS = {
    "before_write": "changes wait to be committed, nothing of them is written",
    "amid_write": "some of their rows are written, in a transaction that is open",
    "before_commit": "their rows are written, in a transaction that is open",
    "before_acknowledgement": "they are committed and nobody has been told",
    "before_encoder_publish": "a new encoder's memory is built, nothing is swapped or written",
    "after_encoder_publish": "its version and keys are committed",
    "before_index_swap": "search graphs are built and not in use",
    "after_index_swap": "search graphs are in use",
    "before_snapshot_seal": "a snapshot's rows are copied",
    "before_snapshot_name": "a snapshot is sealed and does not have its name yet",
    "before_restore_commit": "a study's rows are in the store, in a transaction that is open",
    "after_restore_commit": "a restored study is committed and not in mind",
    "before_store_moves": "the store to restore is whole, under another name",
    "between_stores": "the former store has moved away and the restored one has not its name",
    "after_store_moves": "the restored store has its name",
    "before_store_name": "a new store is made and has not its name",
    "before_migration_commit": "a schema's changes are made, in a transaction that is open",
}
"""What has and has not happened at each."""

_hook: Callable[[str], None] | None = None


def failpoint(name: str) -> None:
    """Go on, unless a test has something to do here."""
    if _hook is not None:
        _hook(name)


def on_passing(hook: Callable[[str], None] | None) -> None:
    """Call this whenever a failpoint is passed, in the place of any other; None calls nothing.

    Args:
        hook: takes a name of `FAILPOINTS`; called by many threads.
    """
    global _hook  # noqa: PLW0603 - one process, one death
    _hook = hook
