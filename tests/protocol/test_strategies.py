from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from hyperoracle_protocol.strategies import STRATEGIES, Strategy

ANY = TypeAdapter(Strategy)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategys_name_on_the_wire_leads_to_its_settings(name: str) -> None:
    assert type(ANY.validate_python({"name": name})) is STRATEGIES[name]


def test_every_strategy_of_the_wire_is_named() -> None:
    assert set(ANY.json_schema()["discriminator"]["mapping"]) == set(STRATEGIES)
