"""The token with which an open oracle ceases to be open."""

from __future__ import annotations

import json

import pytest
from support.wire_client import Wire

from hyperoracle_client.cli import main
from hyperoracle_server.api.access.callers import Doorkeeper
from hyperoracle_server.api.access.tokens import TokenStore
from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.ledger.store import Ledger

ADMIN = {"name": "admin", "scope": "admin"}


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": "x"},
        {"name": "x", "scope": "read"},
        {"name": "x", "scope": "admin", "studies": ["cartpole*"]},
        {"name": "x", "scope": "admin", "expires_in_seconds": 60},
    ],
)
def test_nobody_locks_everybody_out_with_a_first_token_that_administers_nothing(embedded, wanted):
    """Seen to fail: it was made, and from then on nobody could make another one."""
    refused = embedded.call("POST", "/v1/tokens", wanted)
    assert (refused.status, refused.json["code"]) == (422, "invalid_request")
    assert "running jobs included" in refused.json["detail"]
    assert "\n" not in refused.json["detail"]
    assert embedded.call("GET", "/v1/tokens").json == {"tokens": []}
    first = embedded.call("POST", "/v1/tokens", ADMIN)
    assert (first.status, first.json["closes_the_oracle"]) == (201, True)
    after = embedded.call("POST", "/v1/tokens", wanted)
    assert (after.status, after.json["closes_the_oracle"]) == (201, False)


def test_with_an_administrator_of_the_environment_the_first_token_may_be_any(tmp_path):
    from hyperoracle_protocol.tokens import CreateToken

    ledger = Ledger(str(tmp_path / "oracle.db"))
    doorkeeper = Doorkeeper(TokenStore(ledger), admin_token="of-the-environment")
    doorkeeper.check_first(CreateToken(name="x", scope="read"))
    ledger.close()


def test_the_command_says_so_in_one_line_and_what_the_first_token_does(tmp_path, capsys):
    store = str(tmp_path / "oracle.db")
    assert main(["token", "create", "--name", "x", "--scope", "read", "--store", store]) != 0
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "the first is an administrator's" in told.err
    assert main(["token", "create", "--name", "a", "--scope", "admin", "--store", store]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("ho_")
    assert "running jobs included" in told.err
    assert main(["token", "create", "--name", "x", "--scope", "read", "--store", store]) == 0
    told = capsys.readouterr()
    assert (told.out[:3], told.err) == ("ho_", "")


def test_a_token_may_be_revoked_by_itself_without_telling_it(tmp_path, capsys, monkeypatch):
    """Its id is made of it where it is typed; seen to fail: the secret went into the path."""
    store = str(tmp_path / "oracle.db")
    for name in ("a", "b"):
        main(["token", "create", "--name", name, "--scope", "admin", "--store", store])
    secret = capsys.readouterr().out.split()[1]
    paths = []
    handle = EmbeddedTransport.handle

    def noting(self, method, path, headers, body):
        paths.append(path)
        return handle(self, method, path, headers, body)

    monkeypatch.setattr(EmbeddedTransport, "handle", noting)
    assert main(["token", "revoke", secret, "--store", store]) == 0
    assert capsys.readouterr().out == "token b is revoked\n"
    assert paths
    assert secret not in json.dumps(paths)
    transport = EmbeddedTransport(store)
    tokens = Wire(transport=transport).call("GET", "/v1/tokens").json["tokens"]
    transport.close()
    assert {t["name"]: t["status"] for t in tokens} == {"a": "active", "b": "revoked"}
