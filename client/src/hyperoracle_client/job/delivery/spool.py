"""Reports on disk that could not be delivered: one file per job, removed once they are.

The file is JSON lines. The first names the study, the job's key and (once known) its id; each
other line is a report, without `sequence` and credits if the job had not joined its oracle yet.
A torn last line (the process died while it wrote) is ignored, and goes when more is added.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperoracle_client.job.delivery.sequences import ReportCredits

logger = logging.getLogger("hyperoracle_client")

SUFFIX = ".jsonl"
_READABLE_CHARACTERS = 64


@dataclass(slots=True)
class OutgoingReport:
    """A report on its way to the oracle.

    Attributes:
        episode_returns: raw returns of the environment episodes that ended, finite.
        env_step: the job's environment steps so far.
        phase_return: raw discounted reward sum per environment, if given.
        custom_return: the user's own number, if given.
        dropped_returns: how many numbers were left out because they were not finite, by field.
        credits: its sequence and what it credits; None until the job has joined.
        previous_report: the sequence of the report before it, 0 if none, None if unknown.
        applied: values that were used instead of proposed ones, None where there are none.
        fixed: whether an attempt was made to send it: from then on its body stays the same.
    """

    episode_returns: list[float]
    env_step: int
    phase_return: float | None = None
    custom_return: float | None = None
    dropped_returns: dict[str, int] = field(default_factory=dict)
    credits: ReportCredits | None = None
    previous_report: int | None = None
    applied: list[dict[str, Any]] | None = None
    fixed: bool = False

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> OutgoingReport:
        """The report whose `fields` these are, read from JSON."""
        credit = fields["credits"]
        return cls(**{**fields, "credits": None if credit is None else ReportCredits(*credit)})

    def fields(self) -> dict[str, Any]:
        """Everything about it, as JSON can write it."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        if self.credits is not None:  # a class of ours in a pickled state would bind it to its name
            fields["credits"] = list(self.credits)
        return fields

    def metadata(self) -> dict[str, Any]:
        """The protocol's `ReportMetadata` of a report whose credits are known."""
        assert self.credits is not None
        metadata: dict[str, Any] = {**self.credits._asdict(), "env_step": self.env_step}
        for name in ("phase_return", "custom_return", "previous_report", "applied"):
            if (value := getattr(self, name)) is not None:
                metadata[name] = value
        if self.dropped_returns:
            metadata["dropped_returns"] = self.dropped_returns
        return metadata


@dataclass(slots=True)
class SpooledJob:
    """What a spool file holds.

    Attributes:
        study: the job's.
        job_key: the job's.
        job_id: its id, None where it had not joined.
        reports: those that can be read.
        unreadable: how many lines cannot, a torn last one aside.
    """

    study: str
    job_key: str
    job_id: str | None = None
    reports: list[OutgoingReport] = field(default_factory=list)
    unreadable: int = 0


class Spool:
    """The spool file of one job.

    Its name tells people the study, as far as a file's name may; what makes it the job's own is a
    digest, so that it stays in the folder, is never too long, and differs also where capitals do
    not count.
    """

    def __init__(self, directory: Path, study: str, job_key: str) -> None:
        whose = json.dumps([study, job_key]).encode()
        readable = re.sub(r"[^A-Za-z0-9_-]", "_", study)[:_READABLE_CHARACTERS]
        digest = hashlib.sha256(whose).hexdigest()[:16]
        self.path = directory / f"{readable}.{digest}{SUFFIX}"
        self._header = {"study": study, "job_key": job_key}

    def load(self) -> SpooledJob | None:
        """What an earlier process left, None if nothing.

        A file that cannot be understood is put aside, with the ending `.damaged`.
        """
        try:
            return read_spool(self.path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            aside = self.put_aside(".damaged")
            logger.warning("oracle reports in %s cannot be read: %s", aside, error)
            return None

    def append(self, job_id: str | None, reports: Iterable[OutgoingReport]) -> None:
        """Add reports, all or none; begins the file if there is none.

        Raises:
            OSError: the disk is full, or the directory cannot be written.
        """
        self._append_to(self.path, job_id, reports)

    def rewrite(self, job_id: str | None, reports: Iterable[OutgoingReport]) -> None:
        """Replace the file's contents, all or nothing.

        Raises:
            OSError: the disk is full, or the directory cannot be written.
        """
        fresh = self.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        self._append_to(fresh, job_id, reports)
        fresh.replace(self.path)

    def put_aside(self, ending: str) -> Path:
        """Give the file another name, if it can be; returns the name."""
        aside = self.path.with_suffix(ending)
        with contextlib.suppress(OSError):
            self.path.replace(aside)
        return aside

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _append_to(self, path: Path, job_id: str | None, reports: Iterable[OutgoingReport]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            end = _end_of_whole_lines(file)
            header = [] if end else [json.dumps({**self._header, "job_id": job_id}) + "\n"]
            left = memoryview("".join([*header, *map(_line, reports)]).encode())
            # What is half written, now or by a process that died, would hide what comes behind it.
            file.truncate(end)
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(end)
                raise


def _end_of_whole_lines(file: io.FileIO) -> int:
    """The file's size without a torn last line, in bytes."""
    size = file.seek(0, io.SEEK_END)
    if size == 0:
        return 0
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return size
    file.seek(0)
    return file.readall().rfind(b"\n") + 1


def read_spool(path: Path) -> SpooledJob:
    """Read a spool file.

    Raises:
        OSError: it cannot be read.
        ValueError, KeyError, TypeError: it is no spool file.
    """
    text = path.read_text(encoding="utf-8")
    header, *lines = text.splitlines()
    spooled = SpooledJob(**json.loads(header))
    for number, line in enumerate(lines, 1):
        try:
            spooled.reports.append(OutgoingReport.of(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            # The last one can be torn; any other is damaged, and hides none of those behind it.
            is_torn = number == len(lines) and not text.endswith("\n")
            spooled.unreadable += not is_torn
    return spooled


def _line(report: OutgoingReport) -> str:
    return json.dumps(report.fields(), separators=(",", ":")) + "\n"
