from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from client.scripted_oracle import ScriptedOracle

from hyperoracle_client import Choice, Float, Int, Oracle, OracleMisconfigured, Scale
from hyperoracle_protocol.hyper_state import TensorShape, sketch_layout

pytest.importorskip("stable_baselines3")
from stable_baselines3 import A2C, PPO

from hyperoracle_client.stable_baselines3 import OracleCallback

SPACE = {
    "learning_rate": Scale([0.5, 1, 2]),
    "clip_range": Choice([0.1, 0.2, 0.3], default=0.2),
    "ent_coef": Float(low=0, high=0.02, default=0),
    "n_epochs": Int(low=1, high=3, default=2, bins=3),
}


def test_ppo_trains_with_what_the_oracle_chooses(
    server: ScriptedOracle, connect: Callable[..., Oracle]
) -> None:
    torch.manual_seed(0)
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=32, seed=0, device="cpu")
    shapes = [TensorShape(name=n, shape=tuple(p.shape)) for n, p in model.policy.named_parameters()]
    server.layout = sketch_layout(shapes, seed=1, width=2, orders=2)
    oracle = connect(server.url, on_error="raise", propose_deadline_seconds=5.0)
    callback = OracleCallback(oracle, study="s", space=SPACE, role="exploit")
    model.learn(256, callback=callback)
    assert callback.job.stats.proposals == 4
    assert server.of("start")[0].total_env_steps == 256
    assert [message.env_step for message, _, _ in server.of("propose")] == [64, 128, 192, 256]
    assert "approx_kl" in server.of("propose")[1][0].signals
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(2 * 3e-4)
    assert (model.clip_range(0.5), model.ent_coef, model.n_epochs) == (0.3, 0.02, 3)
    returns = [list(returns) for _, returns, _ in server.of("report")]
    assert len(returns) == 4
    # an episode of CartPole gives 1 per step, and at most as much as there were steps
    assert 64 < sum(map(sum, returns)) <= 256
    assert len(server.of("finish")) == 1


def test_a_relative_coefficient_multiplies_what_the_algorithm_was_made_with(
    server: ScriptedOracle, connect: Callable[..., Oracle]
) -> None:
    model = A2C("MlpPolicy", "CartPole-v1", seed=0, device="cpu", ent_coef=0.01)
    space = {"ent_coef": Scale([0.5, 1, 4])}
    oracle = connect(server.url, propose_deadline_seconds=5.0)
    model.learn(15, callback=OracleCallback(oracle, study="s", space=space))
    assert model.ent_coef == pytest.approx(0.04)  # of the base each time, not of the last


def test_a_hyperparameter_that_the_algorithm_lacks_is_named(
    connect: Callable[..., Oracle], server: ScriptedOracle
) -> None:
    model = A2C("MlpPolicy", "CartPole-v1", seed=0, device="cpu")
    callback = OracleCallback(
        connect(server.url), study="s", space={"clip_range": SPACE["clip_range"]}
    )
    with pytest.raises(OracleMisconfigured, match="A2C, got 'clip_range'"):
        model.learn(5, callback=callback)
