"""What is let in: the study that is asked for, as much as it can bear, as much as a token may have.

Refused before anything changes: a definition that differs from the study's, a layout or a report
that would cost too much, and whatever goes over the quota of a `train` token. A study belongs to
the token that created it, a job to the one that started it. What an open oracle, an embedded one or
an administrator makes belongs to nobody, and nothing bounds it. A study that is deleted gives back
what it took.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.strategies.cost import CostLimits, check_cost, most_open_proposals

if TYPE_CHECKING:
    from hyperoracle_protocol.hyper_state import HyperStateLayout
    from hyperoracle_protocol.jobs import StartJob
    from hyperoracle_protocol.studies import StudyDefinition
    from hyperoracle_server.oracle.job import JobState
    from hyperoracle_server.oracle.study import StudyRuntime


def check_same_definition(study: StudyRuntime, definition: StudyDefinition) -> None:
    """See that a study is defined like this.

    Raises:
        RequestRefused: `study_conflict`, naming what differs.
    """
    ours, theirs = study.definition.model_dump(mode="json"), definition.model_dump(mode="json")
    if theirs["seed"] is None or theirs["seed"] == study.seed:
        theirs["seed"] = ours["seed"]
    same_order = list(ours["space"]) == list(theirs["space"])
    differences = _differences(ours, theirs)
    if not same_order and not differences:
        differences = {
            "the order of the hyperparameters": (list(ours["space"]), list(theirs["space"]))
        }
    if differences:
        raise RequestRefused(
            ErrorCode.STUDY_CONFLICT,
            f"study {study.name!r} exists with another definition; it differs in "
            f"{', '.join(differences)}: use its definition, or another name",
            expected={where: its for where, (its, _) in differences.items()},
            got={where: wanted for where, (_, wanted) in differences.items()},
        )


def _differences(ours: Any, theirs: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """What either JSON value has where they differ, by the dotted path of the place.

    Of things of two kinds, two strategies say, what only one of them has is not worth a word.
    """
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return {} if ours == theirs else {path: (ours, theirs)}
    kinds = ((ours.get(tag), theirs.get(tag)) for tag in ("name", "type", "kind"))
    is_of_one_kind = all(a == b for a, b in kinds if isinstance(a, str) and isinstance(b, str))
    found: dict[str, tuple[Any, Any]] = {}
    for key in {**ours, **theirs}:
        inner = f"{path}.{key}" if path else key
        if key in ours and key in theirs:
            found |= _differences(ours[key], theirs[key], inner)
        elif is_of_one_kind:
            found[inner] = ("there", "absent") if key in ours else ("absent", "there")
    return found


class Layouts:
    """Gives jobs their layouts. Thread-safe; no study need be locked.

    Args:
        limits: what a study may cost with all its layouts.
    """

    def __init__(self, limits: CostLimits) -> None:
        self._limits = limits
        self._encoder_lock = threading.Lock()  # one encoder is made at a time: it takes memory

    def of(self, study: StudyRuntime, start: StartJob) -> HyperStateLayout:
        """The hyper-state of a job; the study can bear it.

        Raises:
            RequestRefused: `invalid_request`, the tensors do not make a layout, or the study would
                cost too much.
        """
        try:
            layout = study.agent.layout_for(start.tensors, study.seed)
        except ValueError as error:
            raise RequestRefused(ErrorCode.INVALID_REQUEST, str(error)) from None
        known = dict(study.layouts)
        if layout.signature not in known:
            check_cost(study.definition, [*known.values(), layout], self._limits)
        return known.get(layout.signature, layout)

    def fresh_encoder(self, study: StudyRuntime, layout: HyperStateLayout) -> Any:
        """An encoder for a layout that the study does not know yet; None where it needs none.

        It may take seconds.
        """
        agent = study.agent
        if agent.is_open(layout):
            return None
        with self._encoder_lock:
            is_open = agent.is_open(layout)  # by a job that was before this one
            return None if is_open else agent.fresh_encoder(layout)


Call = Literal["propose", "report", "reports"]
"""The two hot calls."""


SECONDS_PER_JOB = 1e-4
"""Of a look at what a job did and how it ended, where all of a study are looked at."""


def expected_seconds(study: StudyRuntime, call: Call, job_id: str) -> float:
    """About how long a job's call will take, from sizes; the lock need not be held.

    What the hyper-agent has to do counts, and only that: the rest takes about a millisecond.

    Args:
        study: the job's.
        call: which one.
        job_id: the public id; of an unknown job it is 0.
    """
    job = study.jobs.get(job_id)
    if job is None:
        return 0.0
    if call == "propose":
        looking = 0.0 if study.endings.knows_hazards else SECONDS_PER_JOB * len(study.jobs)
        return looking + study.agent.decide_seconds(job.id, job.signature)
    return study.agent.learn_seconds(job.id, job.signature, len(job.open))


def check_open(study: StudyRuntime, job: JobState) -> None:
    """See that the report to come will end in due time, and that what waits for it is bounded.

    Raises:
        RequestRefused: `invalid_request`.
    """
    most = most_open_proposals(
        study.agent.learn_seconds(job.id, job.signature, 1), job.layout.feature_count
    )
    if len(job.open) >= most:
        raise RequestRefused(
            ErrorCode.INVALID_REQUEST,
            f"{len(job.open)} proposals of this job wait to be credited, as many as its study "
            "bears: report after fewer updates, or let the study hold its decisions (`hold`)",
            expected=f"fewer than {most} proposals between reports",
            got=len(job.open),
        )


def kept_bytes(study: StudyRuntime) -> int:
    """About what a study keeps in the store beside its jobs' decisions and reports.

    The hyper-states in memory, in samples and of open proposals, and encoders; the lock need not
    be held.
    """
    still_open: Counter[str] = Counter()
    for job in list(study.jobs.values()):
        still_open[job.signature] += len(job.open)
    total = 0
    kept_by_layout = study.agent.kept()
    for signature, layout in list(study.layouts.items()):
        kept = kept_by_layout.get(signature)
        if kept is None:
            continue
        count = kept.entries + len(study.samples.of(signature)) + still_open[signature]
        width = 2 if layout.dtype == "float16" else 4
        total += count * layout.feature_count * width + kept.encoder_bytes
    return total


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
            RequestRefused: `quota_exceeded`.
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
            RequestRefused: `quota_exceeded`.
        """
        if owner is None or owner not in self._over:
            return
        if not is_report or self._over[owner] >= 1 + RESERVED_FOR_REPORTS:
            most = self.most.store_bytes
            raise _exceeded("store_bytes", int(self._over[owner] * most), most)


def _exceeded(name: str, used: int, most: int) -> RequestRefused:
    what = {"studies": "studies", "jobs": "jobs", "store_bytes": "bytes in the store"}[name]
    setting = {"studies": "studies", "jobs": "jobs", "store_bytes": "bytes"}[name]
    return RequestRefused(
        ErrorCode.QUOTA_EXCEEDED,
        f"this token's quota of {what} is used up ({used:,} of {most:,}): have studies that nobody "
        f"needs deleted, or let the operator raise --token-{setting} "
        f"(HYPERORACLE_TOKEN_{setting.upper()})",
        expected=f"fewer than {most} {what}",
        got=used,
    )


def name_taken(name: str) -> RequestRefused:
    """The refusal of a study to restore whose name another has."""
    return RequestRefused(
        ErrorCode.STUDY_CONFLICT,
        f"there is a study {name!r}: restore it under another name, or delete that one",
        expected="a name that no study has",
        got=name,
    )


def no_such_job(job_id: str) -> RequestRefused:
    """The refusal of a call of a job that does not exist."""
    return RequestRefused(
        ErrorCode.JOB_NOT_FOUND,
        f"there is no job {job_id!r}; start one with POST /v1/studies/STUDY/jobs",
        expected="the id of a job of this server",
        got=job_id,
    )
