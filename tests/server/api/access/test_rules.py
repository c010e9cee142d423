from __future__ import annotations

import pytest

from hyperoracle_server.api.access.rules import ADMINISTRATION, Requirement, requirement

JOBS = {"j1": "mine"}


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/livez", None),
        ("GET", "/readyz", None),
        ("GET", "/v1/studies", Requirement("read", any_study=True)),
        ("GET", "/v1/studies/mine", Requirement("read", "mine")),
        ("GET", "/v1/studies/mine/what/is/to/come", Requirement("read", "mine")),
        ("PUT", "/v1/studies/mine", Requirement("train", "mine")),
        ("PUT", "/v1/studies/mine/x", Requirement("admin", "mine")),
        ("DELETE", "/v1/studies/mine", Requirement("admin", "mine")),
        ("POST", "/v1/studies/mine/jobs", Requirement("train", "mine")),
        ("POST", "/v1/studies/mine/snapshots", Requirement("admin", "mine")),
        ("POST", "/v1/studies/mine/restore", Requirement("admin", "mine")),
        ("POST", "/v1/jobs/j1/propose", Requirement("train", "mine")),
        ("GET", "/v1/jobs/j1", Requirement("read", "mine")),
        ("GET", "/v1/proposals/j1.7/explanation", Requirement("read", "mine")),
        ("GET", "/v1/jobs/j2", Requirement("read", any_study=True)),
        ("POST", "/v1/jobs/j2/report", Requirement("train", any_study=True)),
        ("GET", "/metrics", Requirement("read")),
        ("POST", "/metrics", ADMINISTRATION),
        ("GET", "/v1/tokens", ADMINISTRATION),
        ("DELETE", "/v1/tokens/x", ADMINISTRATION),
        ("GET", "/", ADMINISTRATION),
        ("GET", "/livez/", ADMINISTRATION),
        ("GET", "//livez", ADMINISTRATION),
        ("GET", "/v1/studies/", ADMINISTRATION),
        ("GET", "/v1//studies/mine", ADMINISTRATION),
        ("GET", "/v1/jobs", ADMINISTRATION),
        ("GET", "", ADMINISTRATION),
        ("get", "/v1/studies", ADMINISTRATION),
    ],
)
def test_what_a_call_needs_and_what_is_not_named_needs_an_administrator(method, path, needed):
    assert requirement(method, path, JOBS.get) == needed
