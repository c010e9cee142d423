"""Which call needs which scope, in which study. What is not named here is for administrators."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hyperoracle_protocol.tokens import Scope

OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""Answered to anybody: they say nothing of any study, and who asks them holds no token."""

_ANY_TOKEN = frozenset({"/v1/studies", "/docs", "/openapi.json"})
"""GET of these is for every token: a list holds the studies that the token names."""


class Requirement(NamedTuple):
    """What a call needs.

    Attributes:
        scope: the least that suffices.
        study: the study that it is about; None for what concerns all of them.
        any_study: whether it is about no study at all, and any token of the scope will do.
    """

    scope: Scope
    study: str | None = None
    any_study: bool = False


ADMINISTRATION = Requirement("admin")


def requirement(
    method: str, path: str, study_of_job: Callable[[str], str | None]
) -> Requirement | None:
    """What a call needs; None for the calls that are open to anybody.

    Args:
        method: in capitals.
        path: decoded, as the router sees it.
        study_of_job: the study of a job, None of a job that does not exist.
    """
    if path in OPEN_PATHS:
        return None
    parts = path.split("/")
    if len(parts) >= 4 and parts[1] == "v1" and parts[3]:
        if parts[2] == "jobs":
            scope: Scope = "read" if method == "GET" else "train"
            return _of_job(scope, parts[3], study_of_job)
        if parts[2] == "studies":
            return _of_study(method, parts)
        if parts[2] == "proposals":
            return _of_job("read", parts[3].rpartition(".")[0], study_of_job)
    if method == "GET" and path in _ANY_TOKEN:
        return Requirement("read", any_study=True)
    if method == "GET" and path == "/metrics":
        return Requirement("read")
    return ADMINISTRATION


def _of_study(method: str, parts: list[str]) -> Requirement:
    study = parts[3]
    if method == "GET":
        return Requirement("read", study)
    is_creation = method == "PUT" and len(parts) == 4
    is_start = method == "POST" and parts[4:] == ["jobs"]
    return Requirement("train" if is_creation or is_start else "admin", study)


def _of_job(scope: Scope, job: str, study_of_job: Callable[[str], str | None]) -> Requirement:
    study = study_of_job(job)
    # Of a job that does not exist the route says so: ids are random, so this tells nobody of one.
    return Requirement(scope, any_study=True) if study is None else Requirement(scope, study)
