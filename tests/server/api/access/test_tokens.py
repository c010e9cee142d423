from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.api.access.tokens import (
    RANK,
    StoredToken,
    digest_of,
    id_of,
    is_same,
    new_token,
)

NAMES = st.text("abAB01._-", min_size=1, max_size=8)


def token(**fields) -> StoredToken:
    usual = {"id": "0" * 12, "name": "t", "scope": "train", "studies": ("*",), "digest": b"",
             "created_at": 0.0}  # fmt: skip
    return StoredToken(**{**usual, **fields})


def test_a_token_carries_its_id_and_256_bits_that_no_other_has():
    made = [new_token() for _ in range(100)]
    assert all(id_of(whole.encode()) == token_id for token_id, whole in made)
    assert len({whole[16:] for _, whole in made}) == 100
    assert all(whole.startswith("ho_") and len(whole) == 3 + 12 + 1 + 43 for _, whole in made)


@given(st.binary(max_size=80))
def test_anything_that_is_offered_has_an_id_and_a_digest(offered):
    assert len(id_of(offered)) <= 12
    assert len(digest_of(offered)) == 32
    assert is_same(digest_of(offered), digest_of(offered))
    assert not is_same(digest_of(offered), digest_of(offered + b"x"))


def test_a_scope_includes_those_below_it():
    reach = {s: [wanted for wanted in RANK if token(scope=s).allows(wanted, "x")] for s in RANK}
    assert reach == {
        "read": ["read"],
        "train": ["read", "train"],
        "admin": ["read", "train", "admin"],
    }


@pytest.mark.parametrize(
    ("patterns", "study", "allowed"),
    [
        (("cartpole*",), "cartpole-ppo", True),
        (("cartpole*",), "cartpole", True),
        (("cartpole*",), "my-cartpole", False),
        (("cartpole",), "cartpole-ppo", False),
        (("cartpole",), "Cartpole", False),
        (("a", "b?"), "b1", True),
        (("a", "b?"), "b", False),
        (("a.c",), "abc", False),
        (("a",), "a\n", False),
        (("[ab]x",), "bx", True),
        (("*",), "anything", True),
    ],
)
def test_patterns_are_the_shells_and_fit_the_whole_name(patterns, study, allowed):
    assert token(studies=patterns).allows("train", study) is allowed


@given(st.lists(st.text("ab*?", min_size=1, max_size=5), min_size=1, max_size=4), NAMES)
def test_one_pattern_that_fits_suffices(patterns, study):
    expected = any(fnmatch.fnmatchcase(study, pattern) for pattern in patterns)
    assert token(studies=tuple(patterns)).allows("read", study) is expected


def test_only_a_token_for_all_studies_may_do_what_concerns_all():
    assert token(studies=("x", "*")).allows("train", None)
    assert not token(studies=("?*", "x*")).allows("train", None)


def test_a_token_is_active_until_the_very_second_of_its_end():
    assert token(expires_at=100.0).status(99.9) == "active"
    assert token(expires_at=100.0).status(100.0) == "expired"
    assert token().status(1e12) == "active"
    assert token(expires_at=100.0, revoked_at=50.0).status(200.0) == "revoked"
