"""What routes are handed."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from hyperoracle_server.oracle import Oracle


def the_oracle(request: Request) -> Oracle:
    """The application's oracle."""
    oracle: Oracle = request.app.state.oracle
    return oracle


TheOracle = Annotated[Oracle, Depends(the_oracle)]
