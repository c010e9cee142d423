"""Tokens: create, list, revoke. For administrators of all studies (`security.rules`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from hyperoracle_protocol import tokens as messages
from hyperoracle_server.api.access.callers import Doorkeeper
from hyperoracle_server.api.access.token_store import TokenStore
from hyperoracle_server.api.access.tokens import StoredToken
from hyperoracle_server.api.guard import AUDITED
from hyperoracle_server.oracle.clock import as_datetime
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.quotas import Usage

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])


@router.post("", status_code=201)
def create_token(wanted: messages.CreateToken, request: Request) -> messages.CreatedToken:
    """Make a token. The answer holds it; it is told this once and kept nowhere."""
    store = _store(request)
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    doorkeeper.check_first(wanted)
    was_open = not doorkeeper.asks_for_tokens
    token, secret = store.create(wanted)
    request.scope[AUDITED].update(created=token.name, token_id=token.id, scope=token.scope,
                                  studies=list(token.studies))  # fmt: skip
    described = _described([token], request)[0]
    return messages.CreatedToken(**described, token=secret, closes_the_oracle=was_open)


@router.get("")
def list_tokens(request: Request) -> messages.TokenList:
    """All tokens, the newest first, without the secrets."""
    described = _described(_store(request).all(), request)
    return messages.TokenList(tokens=[messages.Token(**fields) for fields in described])


@router.delete("/{token}")
def revoke_token(token: str, request: Request) -> messages.Token:
    """End a token, by its name or its id. It is refused from now on and stays in the list."""
    revoked = _store(request).revoke(token)
    request.scope[AUDITED].update(revoked=revoked.name, token_id=revoked.id)
    return messages.Token(**_described([revoked], request)[0])


def _store(request: Request) -> TokenStore:
    store: TokenStore = request.app.state.tokens
    return store


def _described(tokens: Sequence[StoredToken], request: Request) -> list[dict[str, Any]]:
    oracle: Oracle = request.app.state.oracle
    now, used = _store(request).now(), oracle.quotas.usage()
    quota = messages.TokenUsage(**oracle.quotas.most._asdict())
    return [
        {
            "name": token.name,
            "token_id": token.id,
            "scope": token.scope,
            "studies": list(token.studies),
            "created_at": as_datetime(token.created_at),
            "expires_at": None if token.expires_at is None else as_datetime(token.expires_at),
            "revoked_at": None if token.revoked_at is None else as_datetime(token.revoked_at),
            "status": token.status(now),
            "used": messages.TokenUsage(**used.get(token.id, Usage())._asdict()),
            "quota": quota if token.scope == "train" else None,
            "calls_per_second": request.app.state.calls_per_second,
        }
        for token in tokens
    ]
