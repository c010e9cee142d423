"""Tokens: create, list, revoke. For administrators of all studies (`security.rules`)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from hyperoracle_protocol import tokens as messages
from hyperoracle_server.clock import as_datetime
from hyperoracle_server.routes.guard import AUDITED
from hyperoracle_server.security.callers import Doorkeeper
from hyperoracle_server.security.token_store import TokenStore
from hyperoracle_server.security.tokens import StoredToken

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
    described = _described(token, store)
    return messages.CreatedToken(**described, token=secret, closes_the_oracle=was_open)


@router.get("")
def list_tokens(request: Request) -> messages.TokenList:
    """All tokens, the newest first, without the secrets."""
    store = _store(request)
    return messages.TokenList(
        tokens=[messages.Token(**_described(token, store)) for token in store.all()]
    )


@router.delete("/{token}")
def revoke_token(token: str, request: Request) -> messages.Token:
    """End a token, by its name or its id. It is refused from now on and stays in the list."""
    store = _store(request)
    revoked = store.revoke(token)
    request.scope[AUDITED].update(revoked=revoked.name, token_id=revoked.id)
    return messages.Token(**_described(revoked, store))


def _store(request: Request) -> TokenStore:
    store: TokenStore = request.app.state.tokens
    return store


def _described(token: StoredToken, store: TokenStore) -> dict[str, Any]:
    return {
        "name": token.name,
        "token_id": token.id,
        "scope": token.scope,
        "studies": list(token.studies),
        "created_at": as_datetime(token.created_at),
        "expires_at": None if token.expires_at is None else as_datetime(token.expires_at),
        "revoked_at": None if token.revoked_at is None else as_datetime(token.revoked_at),
        "status": token.status(store.now()),
    }
