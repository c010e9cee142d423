"""R12: tokens. None, wrong, expired, revoked, of another scope, of another study.

Each test names the guard that was taken out once to see it fail.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.handles import deployed
from support.oracle_process import OracleProcess
from support.waiting import wait_until
from support.wire_client import LEARNING_RATE, Answer, Wire

from hyperoracle_client import Oracle
from hyperoracle_protocol.tokens import CreateToken
from hyperoracle_server.api.access.callers import Doorkeeper
from hyperoracle_server.api.access.tokens import RANK, StoredToken, TokenStore
from hyperoracle_server.api.app import create_app
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.ledger.store import Ledger
from hyperoracle_server.settings import ServerSettings

MINE, OTHER = "mine", "other"
DEFINITION = {"space": LEARNING_RATE, "strategy": {"name": "random"}}


class Call(NamedTuple):
    """A call of the contract.

    Attributes:
        needs: the least scope that suffices.
        about: `study` where the token must name it, `all` where it must name all studies, `none`
            where any token of the scope will do.
    """

    method: str
    path: str
    needs: str
    about: str = "study"
    body: Any = None
    answers: tuple[int, ...] = (200, 201, 204)


PROPOSE = {"sequence": 1, "update_step": 0, "env_step": 0}
REPORT = {"sequence": 2, "credits_through": 1, "env_step": 1, "episode_returns": [1.0]}
CALLS = [
    Call("GET", "/v1/studies", "read", "none"),
    Call("PUT", "/v1/studies/{study}", "train", body=DEFINITION),
    Call("GET", "/v1/studies/{study}", "read"),
    Call("POST", "/v1/studies/{study}/jobs", "train", body={"total_env_steps": 9}),
    Call("GET", "/v1/studies/{study}/jobs", "read"),
    Call("GET", "/v1/studies/{study}/memory", "read"),
    Call("GET", "/v1/studies/{study}/memory/map", "read"),
    Call("GET", "/v1/studies/{study}/schedule", "read"),
    Call("GET", "/v1/studies/{study}/gain", "read"),
    Call("GET", "/v1/studies/{study}/diagnosis", "read"),
    Call("POST", "/v1/studies/{study}/snapshots", "admin"),
    # What is sent is no snapshot, and its answer says so.
    Call("POST", "/v1/studies/{study}/restore", "admin", answers=(422,)),
    Call("POST", "/v1/jobs/{job}/propose", "train", body=PROPOSE),
    Call("POST", "/v1/jobs/{job}/report", "train", body=REPORT),
    # JSON is no frame, and its answer says so.
    Call("POST", "/v1/jobs/{job}/reports", "train", body=REPORT, answers=(415,)),
    Call("GET", "/v1/jobs/{job}", "read"),
    Call("GET", "/v1/proposals/{proposal}/explanation", "read"),
    Call("POST", "/v1/jobs/{job}/heartbeat", "train"),
    Call("POST", "/v1/jobs/{job}/finish", "train"),
    Call("GET", "/v1/tokens", "admin", "all"),
    Call("POST", "/v1/tokens", "admin", "all", body={"name": "new"}),
    Call("DELETE", "/v1/tokens/{token}", "admin", "all", answers=(404,)),
    Call("GET", "/metrics", "read", "all"),
    Call("GET", "/docs", "read", "none"),
    Call("GET", "/openapi.json", "read", "none"),
    Call("DELETE", "/v1/studies/{study}", "admin"),
]
OPEN = {"/livez", "/readyz"}
NO_CALLS = [("PATCH", "/v1/studies/{study}"), ("GET", "/v2/x"), ("POST", "/v1/studies"),
            ("GET", "/v1/studies/{study}/"), ("GET", "//v1/studies/{study}"),
            ("OPTIONS", "/v1/tokens"), ("GET", "/docs/x"), ("GET", "/")]  # fmt: skip


class Guarded:
    """A running oracle that asks for tokens, with a study and a job of `mine` and of `other`."""

    def __init__(self, folder: Path) -> None:
        self.administrator = secrets.token_hex(32)
        secret = folder / "administrator"
        secret.write_text(self.administrator + "\n")
        self.audit = folder / "audit.jsonl"
        self.process = OracleProcess(
            folder, admin_token_file=secret, audit_log=self.audit, log_level="debug"
        )
        self.secrets = [self.administrator]
        self.jobs: dict[str, str] = {}

    def fill(self) -> None:
        """Both studies anew."""
        for study in (MINE, OTHER):
            self.call("DELETE", f"/v1/studies/{study}")
            assert self.call("PUT", f"/v1/studies/{study}", DEFINITION).status == 201
            started = self.call("POST", f"/v1/studies/{study}/jobs", {"total_env_steps": 9})
            self.jobs[study] = started.json["job_id"]
            path = f"/v1/jobs/{self.jobs[study]}/propose"
            assert self.call("POST", path, PROPOSE).status == 200

    def token(self, scope: str, studies: str = "*", **fields: Any) -> str:
        name = f"{scope}-{secrets.token_hex(4)}"
        body = {"name": name, "scope": scope, "studies": [studies], **fields}
        answer = self.call("POST", "/v1/tokens", body)
        assert answer.status == 201, answer
        self.secrets.append(answer.json["token"])
        return answer.json["token"]

    def revoke(self, token: str) -> None:
        assert self.call("DELETE", f"/v1/tokens/{id_of(token)}").status == 200

    def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None,
        authorization: str | None = None,
    ) -> Answer:  # fmt: skip
        """As the administrator, or with this header (an empty one is none)."""
        if authorization is None:
            authorization = f"Bearer {token or self.administrator}"
        wire = Wire(url=self.process.url)
        headers = {"authorization": authorization} if authorization else {}
        content = b"" if body is None else json.dumps(body).encode()
        answer = wire.raw(method, path, content, **headers)
        wire.close()
        return answer

    def make(self, call: Call, study: str, **as_whom: Any) -> Answer:
        names = {"study": study, "job": self.jobs[study], "proposal": f"{self.jobs[study]}.1",
                 "token": "nobody"}  # fmt: skip
        body = call.body
        if call.path == "/v1/tokens" and body:
            body = {"name": f"new-{secrets.token_hex(4)}"}
        return self.call(call.method, call.path.format(**names), body, **as_whom)

    def picture(self) -> Any:
        """What the calls could have changed."""
        lists = ["/v1/studies", f"/v1/studies/{MINE}/jobs", f"/v1/studies/{MINE}/schedule",
                 "/v1/tokens"]  # fmt: skip
        text = json.dumps([self.call("GET", path).json for path in lists])
        return re.sub(r'"last_seen_at": "[^"]*"', "", text)


def id_of(token: str) -> str:
    return token.split("_")[1]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    oracle = Guarded(tmp_path_factory.mktemp("guarded"))
    with oracle.process:
        yield oracle


@pytest.fixture
def guarded(shared: Guarded) -> Guarded:
    """Of this module, with studies that no other test has used."""
    shared.fill()
    return shared


@pytest.fixture
def guarded_alone(tmp_path: Path) -> Iterator[Guarded]:
    """For tests that stop the process, or read all that it has written."""
    oracle = Guarded(tmp_path)
    with oracle.process:
        oracle.fill()
        yield oracle


def test_the_calls_below_are_all_there_are(tmp_path):
    """Fails when a route is added without saying here who may call it (seen with a line of CALLS
    left out)."""
    app = create_app(ServerSettings(store=str(tmp_path / "oracle.db")))
    known = {re.sub(r"{.*?}", "{}", call.path) for call in CALLS} | OPEN
    served = {re.sub(r"{.*?}", "{}", path) for path in app.openapi()["paths"]}
    served |= {re.sub(r"{.*?}", "{}", getattr(route, "path", "")) for route in app.routes}
    deployed(app).close()
    assert served - {""} == known


def test_no_token_and_every_kind_of_wrong_token_is_401_on_every_call(guarded):
    """Seen to fail with `Guard` taken out of `create_app` (the calls succeed), and, for the wrong
    secret, the expired and the revoked token each, with its check in `Doorkeeper._checked` out."""
    good = guarded.token("admin")
    other = guarded.token("admin")
    revoked = guarded.token("admin")
    guarded.revoke(revoked)
    expired = guarded.token("admin", expires_in_seconds=0.001)
    expired_path = f"/v1/studies/{MINE}"
    wait_until("it expires", lambda: guarded.call("GET", expired_path, token=expired).status == 401)
    offers = {
        "none": "",
        "wrong": "Bearer ho_" + secrets.token_hex(24),
        "the secret of another token": f"Bearer {good[:16]}{other[16:]}",
        "an unknown id": f"Bearer ho_{secrets.token_hex(6)}{good[15:]}",
        "a prefix": f"Bearer {good[:-1]}",
        "more than it": f"Bearer {good}x",
        "another case": f"Bearer {good.swapcase()}",
        "its digest": f"Bearer {hashlib.sha256(good.encode()).hexdigest()}",
        "expired": f"Bearer {expired}",
        "revoked": f"Bearer {revoked}",
        "empty": "Bearer ",
        "no scheme": good,
        "another scheme": f"Basic {good}",
        "not ASCII": "Bearer ho_\xe9\xff",
    }
    before = guarded.picture()
    for what, authorization in offers.items():
        for call in [*CALLS, *(Call(m, p, "admin") for m, p in NO_CALLS)]:
            answer = guarded.make(call, MINE, authorization=authorization)
            assert answer.status == 401, (what, call, answer)
            assert answer.json["code"] == "unauthenticated"
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert guarded.picture() == before, "a refused call changed something"
    told = guarded.call("GET", "/v1/studies", token=expired).json["detail"]
    assert "is expired since" in told
    assert guarded.call("GET", "/v1/studies", token=good).status == 200


def test_a_token_in_the_url_is_no_token(guarded):
    """Urls end in logs. Seen to fail with the guard taken out."""
    token = guarded.token("admin")
    for query in (f"?token={token}", f"?access_token={token}"):
        assert guarded.call("GET", f"/v1/studies{query}", authorization="").status == 401


def test_a_scope_that_does_not_reach_so_far_is_403_and_one_that_does_is_not(guarded):
    """Seen to fail with the comparison of ranks in `StoredToken.allows` taken out."""
    tokens = {scope: guarded.token(scope) for scope in RANK}
    for call in CALLS:
        for scope, token in tokens.items():
            if RANK[scope] < RANK[call.needs]:
                answer = guarded.make(call, MINE, token=token)
                assert answer.status == 403, (call, scope, answer)
                assert answer.json["code"] == "forbidden"
                assert call.needs in answer.json["expected"]
    for call in CALLS:
        answer = guarded.make(call, MINE, token=tokens[call.needs])
        assert answer.status in call.answers, (call, answer)


@pytest.mark.parametrize("pattern", [MINE, "mi*", "[mn]ine"])
def test_a_token_of_one_study_is_403_on_every_other_and_on_what_is_of_all(guarded, pattern):
    """Seen to fail with the match of the pattern in `StoredToken.allows` taken out."""
    token = guarded.token("admin", pattern)
    before = guarded.picture()
    for call in CALLS:
        if call.about != "none":
            answer = guarded.make(call, OTHER, token=token)
            assert answer.status == 403, (call, answer)
    assert guarded.picture() == before, "a refused call changed something"
    listed = guarded.call("GET", "/v1/studies", token=token).json["studies"]
    assert [study["name"] for study in listed] == [MINE]
    for call in CALLS:
        if call.about == "study":
            answer = guarded.make(call, MINE, token=token)
            assert answer.status in call.answers, (call, answer)


def test_health_is_open_to_anybody(guarded):
    """Seen to fail with `/readyz` left out of `rules.OPEN_PATHS`."""
    for path in OPEN:
        assert guarded.call("GET", path, authorization="").status == 200


def test_a_revoked_token_is_refused_at_once_on_an_open_connection_and_after_a_restart(
    guarded_alone,
):
    """Seen to fail with the new row not put in the place of the old one in `TokenStore.revoke`."""
    token = guarded_alone.token("train")
    wire = Wire(url=guarded_alone.process.url, token=token)
    assert wire.call("GET", f"/v1/studies/{MINE}").status == 200
    guarded_alone.revoke(token)
    assert wire.call("GET", f"/v1/studies/{MINE}").status == 401
    wire.close()
    kept = guarded_alone.token("train")
    guarded_alone.process.kill()
    guarded_alone.process.start()
    assert guarded_alone.call("GET", "/v1/studies", token=token).status == 401
    assert guarded_alone.call("GET", "/v1/studies", token=kept).status == 200


def test_only_hashes_of_tokens_are_stored(guarded_alone):
    """Seen to fail with the token itself in the column `digest`."""
    tokens = [guarded_alone.token(scope) for scope in RANK]
    guarded_alone.revoke(tokens[0])
    guarded_alone.process.terminate()
    content = b"".join(
        path.read_bytes() for path in guarded_alone.process.folder.glob("oracle.db*")
    )
    for token in tokens:
        secret = token[len("ho_") + 13 :]
        assert len(secret) == 43
        assert secret.encode() not in content
        assert hashlib.sha256(token.encode()).digest() in content
    assert guarded_alone.administrator.encode() not in content


class Incomparable(bytes):
    """Bytes that may not be compared by `==`, which stops at the first difference."""

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared in a time that tells where they differ")


def test_tokens_are_compared_in_constant_time_and_as_often_for_an_unknown_id(tmp_path, monkeypatch):
    """Seen to fail with `stored == offered` in `tokens.is_same`, and with an early refusal of
    unknown ids in `Doorkeeper._checked`."""
    ledger = Ledger(tmp_path / "oracle.db")
    store = TokenStore(ledger)
    token, secret = store.create(CreateToken(name="a", scope="read"))
    store._by_id[token.id] = StoredToken(**{**vars(token), "digest": Incomparable(token.digest)})
    compared = []

    def spy(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return compare(left, right)

    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", spy)
    doorkeeper = Doorkeeper(store)
    assert doorkeeper.admit(f"Bearer {secret}".encode()).name == "a"
    for wrong in (secret[:-1] + "!", "ho_000000000000_" + secret[16:], "x"):
        with pytest.raises(RequestRefused, match="not one of"):
            doorkeeper.admit(f"Bearer {wrong}".encode())
    assert compared == [(32, 32)] * 4
    ledger.close()


def test_no_log_of_server_or_client_holds_a_token(guarded_alone, tmp_path, caplog, monkeypatch):
    """Seen to fail with the header `authorization` logged by the guard, and with the settings of
    the client logged without `repr=False` on its token."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    token = guarded_alone.token("train", MINE)
    wrong = "ho_" + secrets.token_hex(24)
    guarded_alone.secrets.append(wrong)
    with caplog.at_level(logging.DEBUG):
        for offered in (token, wrong):
            for call in CALLS:
                guarded_alone.make(call, MINE, token=offered)
        run_job(guarded_alone, token, MINE)
        with pytest.raises(Exception, match="unauthenticated") as refused:
            run_job(guarded_alone, wrong, MINE)
        with pytest.raises(Exception, match="forbidden"):
            run_job(guarded_alone, token, OTHER)
    for text in (wrong + "\n\ud800", "ho_\u00fc"):
        with pytest.raises(ValueError, match="printable") as misconfigured:
            Oracle(guarded_alone.process.url, text)
        assert text.strip() not in str(misconfigured.value)
    guarded_alone.process.terminate()
    written = {
        "server": guarded_alone.process.log(),
        "audit": guarded_alone.audit.read_text(),
        "client": caplog.text + str(refused.value),
    }
    for where, text in written.items():
        assert text, where
        for secret in guarded_alone.secrets:
            assert secret not in text, where
            assert secret[-20:] not in text, where


def run_job(guarded: Guarded, token: str, study: str) -> None:
    with Oracle(guarded.process.url, token, start_deadline_seconds=30.0) as oracle:
        logging.getLogger("test").debug("the settings are %r", oracle.settings)
        job = oracle.start_job(
            study=study, strategy="random",
            space={"learning_rate": {"type": "relative", "values": [0.5, 1, 2]}},
            total_env_steps=9,
        )  # fmt: skip
        job.propose(env_step=0)
        job.report([1.0], env_step=1)
        job.finish()


def test_a_job_whose_token_is_revoked_trains_on_with_its_defaults(guarded, tmp_path):
    """Seen to fail with `on_error="raise"`."""
    token = guarded.token("train", MINE)
    quick = {"circuit_least_seconds": 0.01, "circuit_most_seconds": 0.05,
             "propose_deadline_seconds": 5.0, "start_deadline_seconds": 30.0,
             "finish_deadline_seconds": 0.2, "spool_directory": tmp_path / "spool"}  # fmt: skip
    with Oracle(guarded.process.url, token, **quick) as oracle:
        job = oracle.start_job(
            study="mine", space={"learning_rate": {"type": "relative", "values": [0.5, 1, 2]}},
            strategy="random", total_env_steps=100,
        )  # fmt: skip
        assert job.propose(env_step=0).source == "oracle"
        guarded.revoke(token)
        sources = []
        for env_step in range(1, 50):
            hyperparameters = job.propose(env_step=env_step)
            job.report([1.0], env_step=env_step)
            sources.append(hyperparameters.source)
            assert hyperparameters["learning_rate"] == 1.0
        assert set(sources) == {"default"}
        stats = job.finish()
    assert "is revoked since" in stats.last_error
    assert stats.reports_dropped == 0
    assert stats.reports_spooled > 0, "they wait on disk for a token that is good"


def test_the_first_token_closes_an_oracle_that_was_open(tmp_path):
    """Seen to fail with `asks_for_tokens` computed once, at the start."""
    with OracleProcess(tmp_path) as process:
        anybody = Wire(url=process.url)
        assert anybody.call("GET", "/v1/studies").status == 200
        created = anybody.call("POST", "/v1/tokens", {"name": "first", "scope": "admin"})
        assert created.status == 201
        assert anybody.call("GET", "/v1/studies").status == 401
        assert anybody.call("POST", "/v1/tokens", {"name": "second"}).status == 401
        holder = Wire(url=process.url, token=created.json["token"])
        assert holder.call("GET", "/v1/studies").status == 200
        # A store all of whose tokens have ended stays closed.
        assert holder.call("DELETE", "/v1/tokens/first").status == 200
        assert anybody.call("GET", "/v1/studies").status == 401
        anybody.close()
        holder.close()


def test_administrative_calls_are_recorded_with_the_tokens_name(guarded):
    """Seen to fail without the recording in `Guard._guarded`."""
    token = guarded.token("admin", "mine*")
    name = next(t["name"] for t in guarded.call("GET", "/v1/tokens").json["tokens"])
    before = len(guarded.audit.read_text().splitlines())
    guarded.call("PUT", "/v1/studies/mine-2", DEFINITION, token=token)
    guarded.call("PUT", "/v1/studies/mine-2", DEFINITION, token=token)  # a confirmation: no change
    guarded.call("DELETE", f"/v1/studies/{OTHER}", token=token)
    guarded.call("DELETE", "/v1/studies/mine-2", token=token)
    guarded.call("GET", f"/v1/studies/{MINE}", token=token)
    lines = [json.loads(line) for line in guarded.audit.read_text().splitlines()]
    assert [(line["call"], line["status"], line["token"]) for line in lines[before:]] == [
        ("PUT /v1/studies/mine-2", 201, name),
        (f"DELETE /v1/studies/{OTHER}", 403, name),
        ("DELETE /v1/studies/mine-2", 204, name),
    ]
    assert all(line["request_id"] and line["client"] == "127.0.0.1" for line in lines)
    made = next(line for line in lines if line.get("created") == name)
    assert (made["call"], made["token"], made["scope"]) == (
        "POST /v1/tokens", "administrator", "admin",
    )  # fmt: skip


def test_a_token_that_calls_too_often_is_told_when_to_come_again_and_others_are_not(tmp_path):
    """Seen to fail without `Guard._check_rate`."""
    with OracleProcess(tmp_path, rate_limit=5) as process:
        anybody = Wire(url=process.url)
        admin = anybody.call("POST", "/v1/tokens", {"name": "a", "scope": "admin"})
        anybody.close()
        first = Wire(url=process.url, token=admin.json["token"])
        second_token = first.call("POST", "/v1/tokens", {"name": "b", "scope": "read"}).json
        began = time.monotonic()
        answers = [first.call("GET", "/v1/studies") for _ in range(30)]
        took = time.monotonic() - began
        refused = [answer for answer in answers if answer.status == 429]
        let_through = [answer for answer in answers if answer.status == 200]
        assert len(refused) + len(let_through) == 30
        assert refused
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        assert len(let_through) <= 2 * 5 + 5 * took
        second = Wire(url=process.url, token=second_token["token"])
        assert second.call("GET", "/v1/studies").status == 200
        first.close()
        second.close()
