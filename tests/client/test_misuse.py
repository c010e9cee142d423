"""What a program writes itself: what cannot work is told at once, in one line of the client's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_client import (
    Categorical,
    Choice,
    Float,
    Int,
    Job,
    Oracle,
    OracleError,
    OracleMisconfigured,
    Scale,
)
from hyperoracle_protocol.space import search_space_adapter
from hyperoracle_protocol.strategies import DqnStrategy, EpgtStrategy
from hyperoracle_protocol.studies import HoldSetting, ReturnSetting, StudyDefinition


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Scale(1.5), r"Scale: values: expected a list of values.*got '1.5'"),
        (lambda: Scale("x"), r"values: expected a list.*got 'x'"),
        (lambda: Scale(None), r"values: expected a list.*got 'None'"),
        (lambda: Scale(np.array(1.0)), r"values: expected a list.*got '1.0'"),
        (lambda: Scale({1: 2}), r"values: expected a list.*got '\{1: 2\}'"),
        (Scale, "values: Field required"),
        (lambda: Scale([1], self=2), "self: Extra inputs are not permitted, got 2"),
        (lambda: EpgtStrategy(memroy={}), "EpgtStrategy: .*'memroy'; did you mean memory"),
        (lambda: EpgtStrategy(memory={"capasity": 3}), "memory: .* did you mean capacity"),
        (lambda: Scale([1], values=[2]), "expected values once"),
        (lambda: Scale([1], 1), r"fields by name \(field=value\), got 1"),
        (lambda: Scale([1, -2]), "values.1: .*greater than 0, got -2"),
        (lambda: Choice(3), r"Choice: values: expected a list.*got '3'"),
        (lambda: Choice([]), "values: .*at least 1 item"),
        (lambda: Choice([1, [2]], default=1), r"values.1: .*valid number, got \[2\]"),
        (lambda: Categorical(True, default=True), "values: expected a list.*got 'True'"),
        (lambda: Categorical("adam", default="adam"), "values: expected a list.*got 'adam'"),
        (lambda: Float(3), r"Float: expected fields by name \(field=value\), got 3"),
        (lambda: Float(low="a", high=2, default=1), "low: .*got 'a'"),
        (lambda: Float(low=0, high=1, default=float("nan")), "default: .*finite number, got nan"),
        (lambda: Int(low=0, high=2.5, default=1), "high: .*got 2.5"),
        (lambda: Int(low=0, high=4, default=9), r"expected a default in \[0, 4\], got 9"),
        (lambda: HoldSetting(updates="x"), "HoldSetting: updates: .*got 'x'"),
        (lambda: ReturnSetting(kind="best"), "ReturnSetting: kind: .*got 'best'"),
        (lambda: EpgtStrategy(memory=3), "EpgtStrategy: memory: .*got 3"),
        (lambda: DqnStrategy(q_learning={"replay_start": 0}), "q_learning.replay_start: .*got 0"),
        (lambda: StudyDefinition(space=3), "StudyDefinition: space: .*got 3"),
    ],
)  # fmt: skip
def test_a_definition_that_cannot_work_is_refused_in_one_line_of_the_clients_errors(make, says):
    """Seen to fail: a `TypeError` from inside, or pydantic's error of several lines."""
    with pytest.raises(OracleMisconfigured, match=says) as caught:
        make()
    assert isinstance(caught.value, OracleError | ValueError)
    assert "\n" not in str(caught.value)


SOMETHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)
MAKERS = [Scale, Choice, Categorical, Float, Int, HoldSetting, ReturnSetting, EpgtStrategy]
FIELDS = ["values", "default", "low", "high", "log", "bins", "takes_effect", "updates",
          "kind", "count", "memory", "exploration", "self", "type", "name"]  # fmt: skip


@given(
    make=st.sampled_from(MAKERS),
    unnamed=st.lists(SOMETHING, max_size=2),
    fields=st.dictionaries(st.sampled_from(FIELDS), SOMETHING, max_size=4),
)
def test_whatever_a_definition_is_made_of_it_is_made_or_refused_in_one_line(make, unnamed, fields):
    """Seen to fail with the constructors that made a tuple of whatever came."""
    refusal = made = None
    try:
        made = make(*unnamed, **fields)
    except OracleMisconfigured as error:
        refusal = str(error)
    assert refusal is None or refusal.isprintable()
    assert made is None or type(made).model_validate_json(made.model_dump_json()) == made


def test_anything_with_values_in_an_order_is_a_list_of_them():
    expected = Scale([0.5, 1, 2])
    for values in ((0.5, 1, 2), np.array([0.5, 1, 2]), (v for v in (0.5, 1.0, 2.0))):
        assert Scale(values) == expected
    assert Scale(values=[0.5, 1, 2]) == expected
    assert Choice(range(3), default=1).values == (0, 1, 2)


def test_a_wrong_list_inside_a_message_is_told_with_its_place():
    """Where it lies is said by the message's path; seen to fail (`TypeError`) before."""
    with pytest.raises(ValueError, match=r"x\.relative\.values") as caught:
        search_space_adapter.validate_json('{"x": {"type": "relative", "values": 1.5}}')
    assert not isinstance(caught.value, OracleMisconfigured)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"space": 3}, "expected space as a mapping.*got '3'"),
        ({"space": [1]}, "expected space as a mapping"),
        ({"space": {"x": 1.5}}, "x"),
        ({"space": {"x": {"type": "relative", "values": 1.5}}}, "x.relative.values: expected a "),
        ({"space": {3: Scale([1])}}, "3"),
        ({"space": None}, "at least 1"),
        ({"study": 3}, "expected a study's name.*got '3'"),
        ({"study": "../x"}, r"expected a study's name.*got '\.\./x'"),
        ({"study": ""}, "expected a study's name"),
        ({"strategy": 3}, "strategy"),
        ({"strategy": {"name": "nobody"}}, "strategy"),
        ({"returns": []}, "returns.kind"),
        ({"hold": "long"}, "hold.updates"),
        ({"hold": {"updates": None}}, "hold.updates"),
        ({"seed": "x"}, "seed"),
        ({"total_env_steps": "x"}, "total_env_steps"),
        ({"total_env_steps": None}, "total_env_steps"),
        ({"base_values": 3}, "expected base_values as a mapping"),
        ({"base_values": {"x": "y"}}, "base_values.x"),
        ({"metadata": ["x"]}, "expected metadata as a mapping"),
        ({"role": 1}, "role"),
        ({"job_key": 1}, "job_key"),
        ({"job_key": "short"}, "job_key"),
        ({"resume_from": 3}, "expected resume_from as a mapping"),
        ({"model": 3}, "expected a torch module or a mapping"),
    ],
)  # fmt: skip
def test_an_argument_of_start_job_that_cannot_work_is_refused_in_one_line(
    start: Callable[..., Job], wrong: dict[str, Any], says: str
) -> None:
    """Seen to fail with a `TypeError` or `AttributeError` for what is no mapping or no text."""
    with pytest.raises(OracleMisconfigured, match=says) as caught:
        start(**wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"url": 3}, {"token": 3}, {"on_error": []}, {"propose_deadline_seconds": "soon"},
     {"spool_directory": 3}, {"queue_capacity": {}}],
)  # fmt: skip
def test_a_setting_of_the_wrong_kind_is_refused_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(OracleMisconfigured, match=next(iter(wrong))) as caught:
        Oracle(**wrong)
    assert "\n" not in str(caught.value)
