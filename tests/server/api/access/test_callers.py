from __future__ import annotations

import pytest

from hyperoracle_protocol.tokens import CreateToken
from hyperoracle_server.api.access.callers import ANYBODY, Doorkeeper
from hyperoracle_server.api.access.rules import ADMINISTRATION, Requirement
from hyperoracle_server.api.access.tokens import TokenStore
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.ledger.store import Ledger

ADMINISTRATOR = "an-administrator-of-the-environment"


@pytest.fixture
def store(tmp_path):
    ledger = Ledger(tmp_path / "oracle.db")
    yield TokenStore(ledger)
    ledger.close()


def test_everybody_is_let_in_until_there_is_a_token(store):
    doorkeeper = Doorkeeper(store)
    assert doorkeeper.admit(None) is ANYBODY
    assert doorkeeper.admit(b"Bearer whatever") is ANYBODY
    store.create(CreateToken(name="a"))
    with pytest.raises(RequestRefused, match="none came"):
        doorkeeper.admit(None)


@pytest.mark.parametrize("settings", [{"is_required": True}, {"admin_token": ADMINISTRATOR}])
def test_nobody_is_let_in_without_one_where_the_settings_say_so(store, settings):
    doorkeeper = Doorkeeper(store, **settings)
    assert doorkeeper.asks_for_tokens
    for header in (None, b"", b"Bearer", b"Bearer ", b"Basic eDp5"):
        with pytest.raises(RequestRefused) as refused:
            doorkeeper.admit(header)
        assert refused.value.code == "unauthenticated"
        assert "HYPERORACLE_TOKEN" in refused.value.detail


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_told_in_any_case_and_the_token_in_its_own(store, scheme):
    _, secret = store.create(CreateToken(name="a"))
    doorkeeper = Doorkeeper(store)
    assert doorkeeper.admit(f"{scheme} {secret}".encode()).name == "a"
    with pytest.raises(RequestRefused):
        doorkeeper.admit(f"{scheme} {secret.upper()}".encode())


def test_the_administrator_of_the_environment_may_do_everything(store):
    doorkeeper = Doorkeeper(store, admin_token=ADMINISTRATOR)
    caller = doorkeeper.admit(f"Bearer {ADMINISTRATOR}".encode())
    caller.check(ADMINISTRATION)
    caller.check(Requirement("admin", "any-study"))
    assert caller.name == "administrator"
    with pytest.raises(RequestRefused):
        doorkeeper.admit(b"Bearer environment")


def test_a_refusal_says_what_it_takes_and_what_came(store):
    _, secret = store.create(CreateToken(name="a", scope="read", studies=["x", "y*"]))
    caller = Doorkeeper(store).admit(f"Bearer {secret}".encode())
    caller.check(Requirement("read", "y1"))
    caller.check(Requirement("read", any_study=True))
    for needed, expected in {
        Requirement("read", "z"): "the scope read for the study z",
        Requirement("train", "x"): "the scope train for the study x",
        Requirement("train", any_study=True): "the scope train",
        Requirement("read"): "the scope read for all studies",
    }.items():
        with pytest.raises(RequestRefused) as refused:
            caller.check(needed)
        assert refused.value.code == "forbidden"
        assert refused.value.expected == expected
        assert refused.value.got == "the scope read for x, y*"
        assert secret not in str(refused.value)


def test_where_no_token_is_asked_for_anybody_may_do_everything():
    ANYBODY.check(ADMINISTRATION)
    assert ANYBODY.may("admin", None)
    assert ANYBODY.name is None
