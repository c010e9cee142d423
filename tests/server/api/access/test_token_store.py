from __future__ import annotations

import sqlite3

import pytest

from hyperoracle_protocol.tokens import CreateToken
from hyperoracle_server.api.access.tokens import TokenStore, digest_of
from hyperoracle_server.errors import RequestRefused, StoreUnavailable
from hyperoracle_server.ledger.store import Ledger
from hyperoracle_server.oracle.services import Clock


class SetClock(Clock):
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "oracle.db")
    yield opened
    opened.close()


@pytest.fixture
def store(ledger, clock):
    return TokenStore(ledger, clock)


def test_a_token_is_found_by_its_id_also_after_a_restart(ledger, store, clock):
    wanted = CreateToken(name="a", scope="read", studies=["x*", "y"], expires_in_seconds=60)
    token, secret = store.create(wanted)
    assert (token.studies, token.created_at, token.expires_at) == (("x*", "y"), 1000.0, 1060.0)
    assert token.digest == digest_of(secret.encode())
    again = TokenStore(ledger, clock)
    assert again.find(token.id) == store.find(token.id) == token
    assert again.find("0" * 12) is None
    assert len(again) == 1


def test_a_name_is_free_again_once_its_token_has_ended(store, clock):
    store.create(CreateToken(name="a", expires_in_seconds=60))
    with pytest.raises(RequestRefused, match="in force"):
        store.create(CreateToken(name="a"))
    clock.time += 60
    second, _ = store.create(CreateToken(name="a"))
    store.revoke("a")
    third, _ = store.create(CreateToken(name="a"))
    assert [t.status(clock.time) for t in store.all()].count("active") == 1
    assert store.find(second.id).revoked_at == clock.time
    assert store.find(third.id).revoked_at is None


def test_a_token_is_revoked_once_by_name_or_id_and_for_good(ledger, store, clock):
    one, _ = store.create(CreateToken(name="one"))
    two, _ = store.create(CreateToken(name="two", expires_in_seconds=1))
    store.revoke("one")
    clock.time += 5
    store.revoke(two.id)  # an expired one, by its id
    for name in ("one", one.id, "three"):
        with pytest.raises(RequestRefused, match="no token"):
            store.revoke(name)
    assert [t.revoked_at for t in TokenStore(ledger, clock).all()] == [1000.0, 1005.0]


def test_what_cannot_be_written_did_not_happen(store, monkeypatch):
    kept, _ = store.create(CreateToken(name="kept"))

    def full(*_args, **_kwargs):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("hyperoracle_server.ledger.writer.run_changes", full)
    with pytest.raises(StoreUnavailable):
        store.create(CreateToken(name="new"))
    with pytest.raises(StoreUnavailable):
        store.revoke("kept")
    assert store.all() == [kept]
