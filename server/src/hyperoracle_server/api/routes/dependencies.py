"""What routes are handed."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from hyperoracle_server.api.access.callers import Caller
from hyperoracle_server.api.guard import CALLER
from hyperoracle_server.oracle.oracle import Oracle


def the_oracle(request: Request) -> Oracle:
    """The application's oracle."""
    oracle: Oracle = request.app.state.oracle
    return oracle


def the_caller(request: Request) -> Caller:
    """Who makes this request; the guard has put it there."""
    caller: Caller = request.scope[CALLER]
    return caller


TheOracle = Annotated[Oracle, Depends(the_oracle)]
TheCaller = Annotated[Caller, Depends(the_caller)]
