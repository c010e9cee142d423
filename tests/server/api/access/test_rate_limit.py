from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.api.access.guard import BURST_SECONDS, RateLimit


class Now:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_after_a_burst_calls_come_through_at_the_rate():
    now = Now()
    limit = RateLimit(4.0, now)
    assert [limit.take("a") for _ in range(8)] == [0.0] * 8
    assert limit.take("a") == 0.25
    now.time += 0.25
    assert limit.take("a") == 0.0
    assert limit.take("a") == 0.25
    assert limit.take("b") == 0.0, "another caller has a bucket of its own"


def test_a_rate_below_one_lets_a_call_through_at_last():
    now = Now()
    limit = RateLimit(0.1, now)
    assert limit.take("a") == 0.0
    assert limit.take("a") == 10.0
    now.time += 10.0
    assert limit.take("a") == 0.0


def test_no_limit_is_no_limit():
    limit = RateLimit(0.0, Now())
    assert {limit.take("a") for _ in range(10_000)} == {0.0}


@given(st.floats(0.1, 1000.0), st.lists(st.floats(0.0, 3.0), max_size=300))
def test_never_more_than_the_burst_and_the_rate_since(per_second, pauses):
    now = Now()
    limit = RateLimit(per_second, now)
    let_through = 0
    for pause in pauses:
        now.time += pause
        let_through += limit.take("a") == 0.0
    most = max(1.0, BURST_SECONDS * per_second) + per_second * now.time
    assert let_through <= most * (1 + 1e-9)
