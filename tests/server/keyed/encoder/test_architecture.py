from __future__ import annotations

from typing import Any

import pytest

from hyperoracle_server.keyed.encoder.architecture import FEATURE_LIMIT, Architecture


def test_feature_counts_are_the_sums_over_blocks() -> None:
    architecture = Architecture.of_sketch(((64, 8), (1, 8), (6, 5)), projected_width=4)
    assert architecture.feature_count == 64 * 8 + 8 + 30
    assert architecture.projected_feature_count == 4 * (64 + 1 + 6)


def test_statistics_are_one_block_without_projection() -> None:
    architecture = Architecture.of_statistics(30, kind="vae", key_size=6)
    assert architecture.blocks == ((1, 30),)
    assert architecture.projected_feature_count == architecture.feature_count == 30
    assert architecture.key_size == 6


def test_a_plain_key_is_as_long_as_the_hyper_state() -> None:
    assert Architecture.of_statistics(30).key_size == 30


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture.of_sketch(((3, 8), (1, 8)), kind="random"),
        Architecture.of_statistics(12),
        Architecture.of_statistics(12, kind="vae"),
    ],
)
def test_json_gives_the_architecture_back(architecture: Architecture) -> None:
    text = architecture.to_json()
    assert Architecture.from_json(text) == architecture
    assert Architecture.from_json(text).to_json() == text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "vae"}', "null"])
def test_json_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting value|expected the JSON"):
        Architecture.from_json(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "magic"}, "kind"),
        ({"blocks": ()}, "blocks"),
        ({"blocks": ((3, 0),)}, "blocks"),
        ({"blocks": ((3, True),)}, "blocks"),
        ({"blocks": ((3, 8, 1),)}, "blocks"),
        ({"blocks": ((FEATURE_LIMIT, 1), (1, 1)), "projected_width": 1}, "features"),
        ({"projected_width": 9}, "narrowest"),
        ({"projected_width": 0}, "narrowest"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"key_size": 5_000}, "key_size"),
        ({"kind": "plain"}, "plain"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "kind": "vae",
        "blocks": ((3, 8),),
        "projected_width": 4,
        "hidden_size": 16,
        "key_size": 5,
    }
    Architecture(**fields)
    with pytest.raises(ValueError, match=message):
        Architecture(**{**fields, **changes})
