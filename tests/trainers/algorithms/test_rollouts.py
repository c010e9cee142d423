from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_trainers.algorithms.rollouts import (
    Collector,
    Rollout,
    ValuesOfRollout,
    generalised_advantages,
)
from hyperoracle_trainers.environments.normalisation import (
    NoNormalisation,
    RewardNormaliser,
    RunningNormalisation,
)
from hyperoracle_trainers.environments.vector import make_environments
from hyperoracle_trainers.policies.networks import ActorCritic, NumpyActor


def _collector(
    env_id: str, count: int = 1, gamma: float = 0.9, *, normalised: bool = False
) -> Collector:
    environments = make_environments(env_id, count, seed=0)
    (size,) = environments.observation_shape
    policy = ActorCritic((size,), environments.action_space, (8,), seed=0)
    return Collector(
        environments,
        NumpyActor(policy),
        RunningNormalisation(size) if normalised else NoNormalisation(),
        RewardNormaliser(count, gamma) if normalised else None,
        gamma,
        np.random.default_rng(0),
    )


def _values_by_observation(rollout: Rollout) -> ValuesOfRollout:
    """A critic for the counting environments: V(observation) = 10 x observation."""
    return rollout.values_of(10 * rollout.all_observations()[:, 0])


def test_advantages_computed_by_hand() -> None:
    # One environment, three env steps, gamma 0.5, lambda 0.5, no end:
    # deltas 1 + 0.5*2 - 4 = -2,  2 + 0.5*6 - 2 = 3,  3 + 0.5*8 - 6 = 1
    # advantages 1,  3 + 1/4 = 3.25,  -2 + 3.25/4 = -1.1875
    advantages = generalised_advantages(
        np.array([[1.0], [2.0], [3.0]], np.float32),
        ValuesOfRollout(
            states=np.array([[4.0], [2.0], [6.0]], np.float32),
            successors=np.array([[2.0], [6.0], [8.0]], np.float32),
        ),
        np.zeros((3, 1), bool),
        gamma=0.5,
        gae_lambda=0.5,
    )
    assert advantages.dtype == np.float32
    assert advantages.ravel().tolist() == [-1.1875, 3.25, 1.0]


def test_nothing_flows_back_across_the_end_of_an_episode() -> None:
    advantages = generalised_advantages(
        np.array([[1.0], [2.0]], np.float32),
        ValuesOfRollout(np.zeros((2, 1), np.float32), np.array([[4.0], [0.0]], np.float32)),
        np.array([[True], [False]]),
        gamma=0.5,
        gae_lambda=1.0,
    )
    assert advantages.ravel().tolist() == [3.0, 2.0]


@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 12),
    count=st.integers(1, 3),
    gamma=st.floats(0, 1),
    gae_lambda=st.floats(0, 1),
)
def test_advantages_are_the_decayed_sum_of_later_errors(
    seed: int, steps: int, count: int, gamma: float, gae_lambda: float
) -> None:
    generator = np.random.default_rng(seed)
    rewards, states, successors = generator.normal(size=(3, steps, count)).astype(np.float32)
    ended = generator.random((steps, count)) < 0.3
    advantages = generalised_advantages(
        rewards, ValuesOfRollout(states, successors), ended, gamma=gamma, gae_lambda=gae_lambda
    )
    for environment in range(count):
        for start in range(steps):
            expected, weight = 0.0, 1.0
            for now in range(start, steps):
                at = now, environment
                expected += weight * (rewards[at] + gamma * successors[at] - states[at])
                weight *= gamma * gae_lambda
                if ended[at]:
                    break
            # a dozen float32 terms of size one
            assert advantages[start, environment] == pytest.approx(expected, abs=2e-5)


def test_a_task_that_ended_is_worth_nothing_afterwards() -> None:
    rollout = _collector("Terminating-v0").collect(5)
    values = _values_by_observation(rollout)
    assert values.states.ravel().tolist() == [0, 10, 20, 0, 10]
    assert values.successors.ravel().tolist() == [10, 20, 0, 10, 20]
    assert len(rollout.final_observations) == 0


def test_a_time_limit_bootstraps_from_the_episodes_last_observation() -> None:
    rollout = _collector("Truncated-v0", count=2).collect(7)
    values = _values_by_observation(rollout)
    for environment in range(2):
        assert values.states[:, environment].tolist() == [0, 10, 20, 0, 10, 20, 0]
        # 30 = 10 x the observation 3 that the reset hid; the last is the open episode's next one.
        assert values.successors[:, environment].tolist() == [10, 20, 30, 10, 20, 30, 10]
    assert rollout.final_observations.ravel().tolist() == [3, 3, 3, 3]


def test_final_values_go_to_the_environment_and_step_that_they_belong_to() -> None:
    collector = _collector("Truncated-v0", count=2)
    collector.collect(1)
    collector._environments._environments[1].reset()  # the second is now one step behind
    collector._next_observations[1] = 0.0
    rollout = collector.collect(4)
    values = rollout.values_of(np.arange(len(rollout.all_observations()), dtype=np.float32))
    first_final = 5 * 2  # five rows of two environments come before the final ones
    assert np.argwhere(rollout.truncated).tolist() == [[1, 0], [2, 1]]
    assert values.successors[1, 0] == first_final
    assert values.successors[2, 1] == first_final + 1


def test_a_task_done_at_the_time_limit_has_ended_with_its_task() -> None:
    rollout = _collector("BothAtOnce-v0").collect(3)
    assert rollout.terminated.ravel().tolist() == [False, False, True]
    assert not rollout.truncated.any()
    assert _values_by_observation(rollout).successors.ravel().tolist() == [10, 20, 0]


def test_episodes_that_span_phases_are_reported_whole() -> None:
    collector = _collector("Terminating-v0")
    first, second = collector.collect(2), collector.collect(2)
    assert first.episode_returns == ()
    assert second.episode_returns == (6.0,)  # 1 + 2 + 3
    assert second.episode_lengths == (3,)


def test_the_phase_return_is_the_raw_discounted_sum_per_environment() -> None:
    rollout = _collector("Terminating-v0", count=2, gamma=0.5).collect(4)
    # rewards 1, 2, 3 and, after the restart, 1
    assert rollout.phase_return == 1 + 2 / 2 + 3 / 4 + 1 / 8


def test_returns_are_raw_where_rewards_are_normalised() -> None:
    rollout = _collector("Terminating-v0", normalised=True).collect(6)
    assert rollout.episode_returns == (6.0, 6.0)
    assert rollout.rewards.ravel().tolist() != [1, 2, 3, 1, 2, 3]
    assert np.unique(np.round(rollout.rewards.ravel() / [1, 2, 3, 1, 2, 3], 5)).size == 1


def test_a_phase_of_another_length_continues_where_the_last_one_stopped() -> None:
    collector = _collector("Truncated-v0")
    collector.collect(2)
    rollout = collector.collect(3)
    assert rollout.env_steps == 3
    assert rollout.observations.ravel().tolist() == [2, 0, 1, 2]


def test_actions_are_recorded_as_drawn_and_follow_the_policy() -> None:
    collector = _collector("CartPole-v1", count=4)
    rollout = collector.collect(400)
    # The initial policy is nearly uniform: a share of 1/2 with standard error 0.0125.
    assert rollout.actions.mean() == pytest.approx(0.5, abs=0.06)


def test_what_the_first_environments_brought_keeps_their_own_final_observations() -> None:
    """Two env steps of three environments: the last is cut first, then the first one."""
    truncated = np.array([[False, False, True], [True, False, False]])
    rollout = Rollout(
        observations=np.arange(9, dtype=np.float32).reshape(3, 3, 1),
        actions=np.arange(6).reshape(2, 3),
        rewards=np.arange(6, dtype=np.float32).reshape(2, 3),
        terminated=np.zeros((2, 3), bool),
        truncated=truncated,
        final_observations=np.array([[20.0], [10.0]], np.float32),
        episode_returns=(1.0, 2.0),
        episode_lengths=(1, 2),
        phase_return=3.0,
    )
    first = rollout.of_first(2)
    assert first.env_steps == 4
    assert first.all_observations().ravel().tolist() == [0, 1, 3, 4, 6, 7, 10]
    assert first.actions.tolist() == [[0, 1], [3, 4]]
    values = first.values_of(first.all_observations()[:, 0])
    assert values.successors.tolist() == [[3, 4], [10, 7]]
    assert (first.episode_returns, first.phase_return) == ((1.0, 2.0), 3.0)
    assert rollout.of_first(3) is rollout
    assert rollout.of_first(1000) is rollout
