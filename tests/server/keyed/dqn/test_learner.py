"""The learner: targets by hand, learning small problems, bytes and back."""

import numpy as np
import pytest
import safetensors.numpy

from hyperoracle_protocol.strategies import QLearningSetting
from hyperoracle_server.keyed.dqn.learner import QLearner
from hyperoracle_server.keyed.dqn.mlp import outputs
from hyperoracle_server.keyed.dqn.replay import Replay, Transitions

KEY = 4


def learner(n_actions=3, name="a", seed=1, **setting):
    return QLearner(KEY, n_actions, QLearningSetting(**setting), seed, name)


def two_transitions():
    rng = np.random.default_rng(0)
    keys, following = rng.normal(size=(2, 2, KEY)).astype(np.float32)
    return Transitions(keys, np.array([0, 2]), np.array([5.0, 7.0]), following,
                       np.array([True, False]))  # fmt: skip


def test_targets_are_the_reward_and_the_discounted_greatest_of_the_target_network():
    found = learner(values="raw", discount=0.5)
    batch = two_transitions()
    found._network["bias_2"] += 100.0  # the target network does not follow
    greatest = outputs(found._target, batch.next_keys[1]).max()
    np.testing.assert_allclose(found.targets(batch), [5.0, 7.0 + 0.5 * greatest], rtol=1e-6)


def test_standardised_targets_are_those_of_the_returns_in_their_units():
    found = learner(discount=0.5)
    for value in (-1000.0, -800.0, -900.0):
        found.see(value)
    mean, deviation = found.scale
    assert mean == pytest.approx(-900)
    assert deviation == pytest.approx(np.std([-1000, -800, -900]))
    batch = two_transitions()
    greatest = mean + deviation * outputs(found._target, batch.next_keys[1]).max()
    expected = (np.array([5.0, 7.0 + 0.5 * greatest]) - mean) / deviation
    np.testing.assert_allclose(found.targets(batch), expected, rtol=1e-5)
    key = batch.keys[0]
    np.testing.assert_allclose(
        found.q_values(key), mean + deviation * outputs(found._network, key), rtol=1e-6
    )


def test_equal_returns_do_not_divide_by_nothing():
    found = learner()
    assert found.scale == (0.0, 1.0)
    for _ in range(3):
        found.see(7.0)
    assert found.scale == (7.0, 1.0)


def one_step_problem(found, count, noise=0.0):
    """Of three hyper-actions the key's first sign says which is worth −900, else −1000."""
    rng = np.random.default_rng(7)
    replay = Replay(KEY, 3, 500)
    for i in range(count):
        key = rng.normal(size=KEY).astype(np.float32)
        action = int(rng.integers(3))
        value = -900.0 if action == (2 if key[0] > 0 else 0) else -1000.0
        value += noise * rng.normal()
        replay.add(key, action, value, value, ends=True, entry_id=i)
        found.see(value)
        found.learn(replay)
    return replay


@pytest.mark.parametrize("hidden_layers", [1, 2])
def test_it_learns_which_hyper_action_is_best_where(hidden_layers):
    found = learner(hidden_layers=hidden_layers, gradient_steps=4)
    one_step_problem(found, 500, noise=10.0)
    rng = np.random.default_rng(8)
    keys = [rng.normal(size=KEY).astype(np.float32) for _ in range(200)]
    right = [int(found.q_values(k).argmax()) == (2 if k[0] > 0 else 0) for k in keys]
    assert np.mean(right) > 0.9


def test_values_travel_back_through_an_episode():
    """Three states in a row, reward at the end only: 4 for the hyper-action 1 there."""
    found = learner(2, gradient_steps=8, target_period=20, discount=0.5)
    states = np.eye(3, KEY, dtype=np.float32)
    replay, rng, entry = Replay(KEY, 2, 1000), np.random.default_rng(0), 0
    for _ in range(120):
        actions = rng.integers(2, size=3)
        reward = 4.0 * actions[2]
        for place, action in enumerate(actions.tolist()):
            got = reward if place == 2 else 0.0
            replay.add(states[place], action, reward, got, ends=place == 2, entry_id=entry)
            entry += 1
            found.see(reward)
            found.learn(replay)
    values = np.array([found.q_values(state) for state in states])
    np.testing.assert_allclose(values[2], [0, 4], atol=0.4)
    np.testing.assert_allclose(values[1], [2, 2], atol=0.4)
    np.testing.assert_allclose(values[0], [1, 1], atol=0.4)


def test_nothing_is_learned_before_the_replay_has_enough():
    found = learner(replay_start=10)
    one_step_problem(found, 9)
    assert found.updates == 0
    one_step_problem(found, 10)
    assert found.updates == 1


def test_the_target_network_is_copied_every_so_many_steps():
    found = learner(target_period=5, replay_start=1)
    first = {name: array.copy() for name, array in found._target.items()}
    one_step_problem(found, 4)
    assert all((found._target[name] == array).all() for name, array in first.items())
    replay = one_step_problem(found, 1)
    assert found.updates == 5
    assert all((found._target[n] == found._network[n]).all() for n in first)
    found.learn(replay)
    assert any((found._target[n] != found._network[n]).any() for n in first)


def test_it_goes_on_from_its_bytes_as_if_it_had_never_stopped():
    one, other = learner(target_period=7), learner(target_period=7, seed=1)
    replay = one_step_problem(one, 60)
    data = one.to_bytes()
    other.restore(data)
    assert other.to_bytes() == data
    for _ in range(20):
        for each in (one, other):
            each.see(-950.0)
            each.learn(replay)
    assert one.to_bytes() == other.to_bytes() != data


def test_first_weights_and_draws_follow_seed_and_name():
    data = learner().to_bytes()
    assert learner().to_bytes() == data
    assert learner(seed=2).to_bytes() != data
    assert learner(name="b").to_bytes() != data


def test_what_is_no_state_of_this_network_is_refused():
    found = learner()
    data = found.to_bytes()
    arrays = safetensors.numpy.load(data)
    with pytest.raises(ValueError, match="damaged"):
        found.restore(data[:-3])
    with pytest.raises(ValueError, match="of layers"):
        found.restore(learner(hidden_size=8).to_bytes())
    with pytest.raises(ValueError, match="updates"):
        found.restore(safetensors.numpy.save({k: v for k, v in arrays.items() if k != "updates"}))
    arrays["network.bias_0"] = arrays["network.bias_0"] * np.nan
    with pytest.raises(ValueError, match="finite"):
        found.restore(safetensors.numpy.save(arrays))
    assert found.to_bytes() == data


def test_returns_of_any_size_keep_the_network_finite():
    found = learner(replay_start=1)
    replay = Replay(KEY, 3, 50)
    for i, value in enumerate([1e300, -1e300, 0.0, 1e-300, 1.7e308, -5.0] * 5):
        replay.add(np.ones(KEY), i % 3, value, value, ends=True, entry_id=i)
        found.see(value)
        found.learn(replay)
    assert np.isfinite(found.q_values(np.ones(KEY, np.float32))).all()
    found.restore(found.to_bytes())
