"""What one `train` token may take up: studies, jobs, bytes in the store.

A study belongs to the token that created it, a job to the one that started it. What an open oracle,
an embedded one or an administrator makes belongs to nobody, and nothing bounds it. A study that is
deleted gives back what it took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.errors import OracleError
from hyperoracle_server.oracle.load import kept_bytes

if TYPE_CHECKING:
    from hyperoracle_server.oracle.study import StudyRuntime

RESERVED_FOR_REPORTS = 0.1
"""Reports are taken for so much longer than all else: what was decided should not be lost."""


JOB_BYTES = 4096
"""Of a job's own row."""


class Usage(NamedTuple):
    """What belongs to a token, or may at most.

    Attributes:
        studies: that it created.
        jobs: that it started.
        store_bytes: what these take in the store, about.
    """

    studies: int = 0
    jobs: int = 0
    store_bytes: int = 0


class Quotas:
    """Counts what belongs to whom, and refuses more than is allowed. Thread-safe.

    Args:
        most: of each token; 0 is no limit.
        studies: all there are.
    """

    def __init__(self, most: Usage, studies: Callable[[], Iterable[StudyRuntime]]) -> None:
        self.most = most
        self._studies = studies
        self._over: dict[str, float] = {}  # token: bytes it takes over those allowed

    def usage(self) -> dict[str, Usage]:
        """What belongs to each token that owns anything, by its id."""
        found: dict[str, Usage] = {}

        def add(owner: str | None, studies: int, jobs: int, store_bytes: int) -> None:
            if owner is not None:
                before = found.get(owner, Usage())
                found[owner] = Usage(
                    before.studies + studies, before.jobs + jobs, before.store_bytes + store_bytes
                )

        for study in self._studies():
            add(study.owner, 1, 0, kept_bytes(study))
            for job in list(study.jobs.values()):
                add(job.owner, 0, 1, JOB_BYTES + job.counts.store_bytes)
        return found

    def look(self) -> None:
        """See who is over the quota of bytes; called now and then, not at every call."""
        if self.most.store_bytes:
            self._over = {
                owner: used.store_bytes / self.most.store_bytes
                for owner, used in self.usage().items()
                if used.store_bytes >= self.most.store_bytes
            }

    def check_addition(self, owner: str | None, what: Literal["studies", "jobs"]) -> None:
        """See that a token may make another study or start another job.

        Raises:
            OracleError: `quota_exceeded`.
        """
        if owner is None:
            return
        used = self.usage().get(owner, Usage())
        names: tuple[Literal["studies", "jobs", "store_bytes"], ...] = (what, "store_bytes")
        for name in names:
            most = getattr(self.most, name)
            if most and getattr(used, name) >= most:
                raise _exceeded(name, getattr(used, name), most)

    def check_bytes(self, owner: str | None, *, is_report: bool = False) -> None:
        """See that a token may add to the store, as of the last `look`.

        Raises:
            OracleError: `quota_exceeded`.
        """
        if owner is None or owner not in self._over:
            return
        if not is_report or self._over[owner] >= 1 + RESERVED_FOR_REPORTS:
            most = self.most.store_bytes
            raise _exceeded("store_bytes", int(self._over[owner] * most), most)


def _exceeded(name: str, used: int, most: int) -> OracleError:
    what = {"studies": "studies", "jobs": "jobs", "store_bytes": "bytes in the store"}[name]
    setting = {"studies": "studies", "jobs": "jobs", "store_bytes": "bytes"}[name]
    return OracleError(
        ErrorCode.QUOTA_EXCEEDED,
        f"this token's quota of {what} is used up ({used:,} of {most:,}): have studies that nobody "
        f"needs deleted, or let the operator raise --token-{setting} "
        f"(HYPERORACLE_TOKEN_{setting.upper()})",
        expected=f"fewer than {most} {what}",
        got=used,
    )
