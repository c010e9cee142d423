"""What the callback does to real algorithms, seen from within their updates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from client.scripted_oracle import ScriptedOracle
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import (
    BaseCallback,
    EvalCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from hyperoracle_client import Categorical, Choice, Float, Int, Oracle, OracleMisconfigured, Scale
from hyperoracle_client.stable_baselines3 import SCHEDULABLE, OracleCallback
from hyperoracle_protocol.hyper_state import TensorShape, sketch_layout

STEPS = 32
"""Of a rollout, with one environment."""
SMALL: dict[str, Any] = {"n_steps": STEPS, "seed": 0, "device": "cpu",
                         "policy_kwargs": {"net_arch": [8]}}  # fmt: skip
OWN: dict[str, Any] = {
    "learning_rate": 1e-3, "clip_range": 0.2, "clip_range_vf": 0.3, "n_epochs": 2,
    "batch_size": 16, "gamma": 0.9, "gae_lambda": 0.8, "ent_coef": 0.01, "vf_coef": 0.4,
    "max_grad_norm": 0.5, "target_kl": 10.0, "normalize_advantage": False,
}  # fmt: skip
"""What the algorithms are made with: nothing is 0, None, or the library's default."""
OTHER: dict[str, Any] = {
    "learning_rate": 2e-3, "clip_range": 0.4, "clip_range_vf": 0.15, "n_epochs": 4,
    "batch_size": 8, "gamma": 0.45, "gae_lambda": 0.4, "ent_coef": 0.04, "vf_coef": 0.1,
    "max_grad_norm": 0.05, "target_kl": 1e-7, "normalize_advantage": True,
}  # fmt: skip
"""What is proposed."""
OF_A2C = ("learning_rate", "gamma", "gae_lambda", "ent_coef", "vf_coef", "max_grad_norm",
          "normalize_advantage")  # fmt: skip
CASES = [("ppo", name) for name in OTHER] + [("a2c", name) for name in OF_A2C]


class Seen:
    """What one update used, taken from what the library computed with."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.norms: list[float] = []
        self.batches: list[int | None] = []
        self.losses: list[float] = []
        self.minibatches: list[torch.Tensor] = []
        self.log_probs: list[torch.Tensor] = []
        self.logged: dict[str, Any] = {}
        self.advantages = np.zeros(0)
        self.expected_advantages: Callable[[float, float], np.ndarray] = lambda *_: np.zeros(0)
        self.target_kl: float | None = None


def spied(kind: Any) -> Any:
    """The algorithm, noting what its updates do."""

    class Spied(kind):  # type: ignore[misc]
        def train(self) -> None:
            self.seen = seen = Seen()
            self.all_seen = [*getattr(self, "all_seen", []), seen]
            seen.target_kl = getattr(self, "target_kl", None)
            seen.advantages = self.rollout_buffer.advantages.copy()
            seen.expected_advantages = advantages_by_hand(self)
            with pytest.MonkeyPatch.context() as patch:
                self._spy(patch, seen)
                super().train()
            seen.logged = dict(self.logger.name_to_value)

        def _spy(self, patch: pytest.MonkeyPatch, seen: Seen) -> None:
            optimiser, buffer = self.policy.optimizer, self.rollout_buffer
            step, get, backward = optimiser.step, buffer.get, torch.Tensor.backward
            clip, evaluate = torch.nn.utils.clip_grad_norm_, self.policy.evaluate_actions

            def noted_step() -> None:
                seen.rates.append(optimiser.param_groups[0]["lr"])
                step()

            def noted_get(batch_size: int | None) -> Any:
                seen.batches.append(batch_size)
                for minibatch in get(batch_size):
                    seen.minibatches.append(minibatch.advantages)
                    yield minibatch

            def noted_backward(loss: torch.Tensor) -> None:
                seen.losses.append(loss.item())
                backward(loss)

            def noted_clip(parameters: Any, norm: float) -> Any:
                seen.norms.append(norm)
                return clip(parameters, norm)

            def noted_evaluate(*args: Any) -> Any:
                values, log_probs, entropy = evaluate(*args)
                seen.log_probs.append(log_probs.detach())
                return values, log_probs, entropy

            patch.setattr(optimiser, "step", noted_step)
            patch.setattr(buffer, "get", noted_get)
            patch.setattr(torch.Tensor, "backward", noted_backward)
            patch.setattr(torch.nn.utils, "clip_grad_norm_", noted_clip)
            patch.setattr(self.policy, "evaluate_actions", noted_evaluate)

    Spied.__name__ = kind.__name__
    return Spied


class Rewards(BaseCallback):
    """Keeps each rollout's rewards as the environment gave them, and what cut episodes lead to."""

    def _on_rollout_start(self) -> None:
        self.model.rewards, self.model.dones, self.model.cut = [], [], {}

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if info.get("TimeLimit.truncated"):
                self.model.cut[len(self.model.rewards)] = info["terminal_observation"]
        self.model.rewards.append(float(self.locals["rewards"][0]))
        self.model.dones.append(bool(self.locals["dones"][0]))
        return True


def advantages_by_hand(model: Any) -> Callable[[float, float], np.ndarray]:
    """Generalised advantage estimation from the definition, one step after the other."""

    def value(observation: Any) -> float:
        with torch.no_grad():
            tensor = model.policy.obs_to_tensor(np.asarray(observation).reshape(1, -1))[0]
            return float(model.policy.predict_values(tensor))

    rewards, dones, values = model.rewards, model.dones, model.rollout_buffer.values[:, 0].tolist()
    after = {step: value(observation) for step, observation in model.cut.items()}
    values.append(value(model._last_obs))

    def advantages(gamma: float, gae_lambda: float) -> np.ndarray:
        found, running = [], 0.0
        for step in reversed(range(len(rewards))):
            goes_on = 0.0 if dones[step] else 1.0
            reward = rewards[step] + gamma * after.get(step, 0.0)
            delta = reward + gamma * goes_on * values[step + 1] - values[step]
            running = delta + gamma * gae_lambda * goes_on * running
            found.append(running)
        return np.array(found[::-1]).reshape(-1, 1)

    return advantages


def environment(max_episode_steps: int = 10) -> Any:
    """Its episodes are cut after a few steps, so that values stand for what would have followed."""
    return gym.make("CartPole-v1", max_episode_steps=max_episode_steps)


def ppo(**settings: Any) -> Any:
    return spied(PPO)("MlpPolicy", environment(), **{**SMALL, **OWN, **settings})


def a2c(**settings: Any) -> Any:
    own = {name: OWN[name] for name in OF_A2C}
    return spied(A2C)("MlpPolicy", environment(), **{**SMALL, **own, **settings})


MAKE = {"ppo": ppo, "a2c": a2c}


@pytest.fixture
def oracle(server: ScriptedOracle, connect: Callable[..., Oracle]) -> Oracle:
    return connect(server.url, on_error="raise", propose_deadline_seconds=30.0,
                  start_deadline_seconds=30.0)  # fmt: skip


def own_state(model: Any) -> dict[str, Any]:
    """All that the callback may have touched."""
    state: dict[str, Any] = {"class": type(model)}
    for name, entry in SCHEDULABLE.items():
        state[name] = getattr(model, entry.attribute or name, None)
    buffer = model.rollout_buffer
    return {**state, "buffer": (buffer.gamma, buffer.gae_lambda), "vars": set(vars(model))}


def learn(
    oracle: Oracle, model: Any, space: Any, steps: int = STEPS, *others: BaseCallback, **more: Any
) -> OracleCallback:
    callback = OracleCallback(oracle, study="s", space=space, **more)
    model.learn(steps, callback=[Rewards(), callback, *others])
    return callback


def check(name: str, value: Any, seen: Seen, used: dict[str, Any]) -> None:
    """The update used this value: by what the library did, not by what its attributes say.

    `used` are all the values that it should have used.
    """
    full = STEPS // used["batch_size"] if "batch_size" in used else 1
    match name:
        case "learning_rate":
            assert seen.rates == pytest.approx([value] * len(seen.rates))
        case "clip_range" | "clip_range_vf":
            assert seen.logged[f"train/{name}"] == pytest.approx(value)
        case "n_epochs":
            assert type(value) is int
            assert len(seen.batches) == value
            assert len(seen.rates) == value * full
        case "batch_size":
            assert seen.batches == [value] * len(seen.batches)
            assert {len(each) for each in seen.log_probs} == {value}
        case "gamma" | "gae_lambda":
            expected = seen.expected_advantages(used["gamma"], used["gae_lambda"])
            np.testing.assert_allclose(seen.advantages, expected, rtol=1e-4, atol=1e-5)
        case "ent_coef" | "vf_coef":
            # One minibatch and one epoch: the means that are logged are of the only loss.
            policy = seen.logged.get("train/policy_loss")
            policy = seen.logged["train/policy_gradient_loss"] if policy is None else policy
            loss = (
                policy
                + used["ent_coef"] * seen.logged["train/entropy_loss"]
                + used["vf_coef"] * seen.logged["train/value_loss"]
            )
            assert seen.losses == pytest.approx([loss], rel=1e-5)
        case "max_grad_norm":
            assert seen.norms == pytest.approx([value] * len(seen.norms))
        case "target_kl":
            assert seen.target_kl == value
            # The first minibatch has KL 0; a later one has more than almost nothing.
            assert len(seen.rates) < OWN["n_epochs"] * full
        case "normalize_advantage":
            advantages = seen.minibatches[0]
            if value:
                advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            if "train/policy_loss" in seen.logged:
                expected = -(advantages * seen.log_probs[0]).mean().item()
                assert seen.logged["train/policy_loss"] == pytest.approx(expected, rel=1e-4)
            else:  # all ratios are 1
                expected = -advantages.mean().item()
                policy = seen.logged["train/policy_gradient_loss"]
                assert policy == pytest.approx(expected, abs=1e-6)
        case _:
            pytest.fail(f"no check of {name}")


ONE_MINIBATCH = {"ent_coef", "vf_coef", "normalize_advantage"}


def made_for(algorithm: str, name: str) -> tuple[Any, dict[str, Any]]:
    """An algorithm to look at one hyperparameter of, and its own values."""
    own = dict(OWN) if algorithm == "ppo" else {each: OWN[each] for each in OF_A2C}
    if algorithm == "ppo" and name in ONE_MINIBATCH:
        own |= {"n_epochs": 1, "batch_size": STEPS}
    return MAKE[algorithm](**own), own


class TestEveryHyperparameter:
    @pytest.mark.parametrize(("algorithm", "name"), CASES)
    def test_is_used_by_the_update_as_it_was_chosen_and_put_back(
        self, oracle: Oracle, server: ScriptedOracle, algorithm: str, name: str
    ) -> None:
        model, own = made_for(algorithm, name)
        before, value = own_state(model), OTHER[name]
        kind = Categorical if isinstance(value, bool) else Choice
        space = {name: kind([OWN[name], value], default=OWN[name])}
        server.answer["hyperparameters"] = {name: value}
        callback = learn(oracle, model, space, 2 * STEPS)
        assert len(model.all_seen) == 2
        for seen in model.all_seen:
            check(name, value, seen, {**own, name: value})
        assert {k: v for k, v in own_state(model).items() if k != "vars"} == {
            k: v for k, v in before.items() if k != "vars"
        }
        assert callback.job.stats.applied_differently == 0
        assert callback.job.stats.last_error is None

    @pytest.mark.parametrize(
        ("algorithm", "name"), [case for case in CASES if case[1] != "normalize_advantage"]
    )
    def test_is_multiplied_by_a_factor(
        self, oracle: Oracle, server: ScriptedOracle, algorithm: str, name: str
    ) -> None:
        factor = OTHER[name] / OWN[name]
        model, own = made_for(algorithm, name)
        server.answer["hyperparameters"] = {name: factor}
        callback = learn(oracle, model, {name: Scale([factor, 1])}, 2 * STEPS)
        for seen in model.all_seen:
            check(name, OTHER[name], seen, {**own, name: OTHER[name]})
        assert callback.job.stats.applied_differently == 0
        proposed = server.of("propose")[0][0]
        assert proposed.base_values == {name: pytest.approx(OWN[name])}

    def test_that_the_callback_takes_is_among_these(self) -> None:
        assert set(OTHER) == set(SCHEDULABLE)
        assert {n for n, e in SCHEDULABLE.items() if hasattr(a2c(), e.attribute or n)} == set(
            OF_A2C
        )

    def test_keeps_its_own_value_without_an_oracle_but_the_default_of_the_space(
        self, connect: Callable[..., Oracle], server: ScriptedOracle
    ) -> None:
        server.die()
        oracle = connect(server.url, start_deadline_seconds=0.0, finish_deadline_seconds=0.0)
        model = ppo()
        space = {"n_epochs": Choice([1, 3], default=3), "learning_rate": Scale([1, 2])}
        learn(oracle, model, space)
        assert len(model.seen.batches) == 3
        assert model.seen.rates[0] == pytest.approx(OWN["learning_rate"])


class TestSchedules:
    def test_a_factor_multiplies_the_schedule_at_that_moment(
        self, oracle: Oracle, server: ScriptedOracle
    ) -> None:
        model = ppo(learning_rate=lambda remaining: 1e-3 * (0.1 + remaining))
        server.answer["hyperparameters"] = {"learning_rate": 2.0}
        callback = learn(oracle, model, {"learning_rate": Scale([1, 2])}, 4 * STEPS)
        used = [seen.rates[0] for seen in model.all_seen]
        assert used == pytest.approx([2e-3 * (0.1 + left) for left in (0.75, 0.5, 0.25, 0.0)])
        assert callback.job.stats.applied_differently == 0
        bases = [m.base_values["learning_rate"] for m, _, _ in server.of("propose")]
        assert bases == pytest.approx([rate / 2 for rate in used])

    def test_one_that_ends_at_0_says_nothing_of_its_factor(
        self, oracle: Oracle, server: ScriptedOracle
    ) -> None:
        model = ppo(learning_rate=lambda remaining: 1e-3 * remaining)
        server.answer["hyperparameters"] = {"learning_rate": 2.0}
        callback = learn(oracle, model, {"learning_rate": Scale([1, 2])}, 2 * STEPS)
        assert [seen.rates[0] for seen in model.all_seen] == pytest.approx([1e-3, 0.0])
        assert callback.job.stats.applied_differently == 0

    def test_factors_do_not_compound_over_learns_or_checkpoints(
        self, oracle: Oracle, server: ScriptedOracle, tmp_path: Path
    ) -> None:
        names = ("learning_rate", "clip_range", "ent_coef", "gamma", "max_grad_norm")
        space = {name: Scale([0.5, 1]) for name in names}
        server.answer["hyperparameters"] = dict.fromkeys(names, 0.5)

        class Checkpoint(BaseCallback):
            def _on_step(self) -> bool:
                if self.n_calls == STEPS + 3:  # after an update
                    self.model.save(tmp_path / "model")
                return True

        model = PPO("MlpPolicy", environment(), **{**SMALL, **OWN})
        for _ in range(3):
            learn(oracle, model, space, 2 * STEPS, Checkpoint())
            model = PPO.load(tmp_path / "model", env=environment(), device="cpu")
            assert type(model) is PPO
            assert model.lr_schedule(1.0) == pytest.approx(OWN["learning_rate"])
            assert model.clip_range(1.0) == pytest.approx(OWN["clip_range"])
            found = (model.ent_coef, model.gamma, model.rollout_buffer.gamma, model.max_grad_norm)
            assert found == (OWN["ent_coef"], OWN["gamma"], OWN["gamma"], OWN["max_grad_norm"])


class Breaks(BaseCallback):
    """Raises in the third rollout, where other callbacks have done theirs."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def _on_step(self) -> bool:
        if self.n_calls > 2 * STEPS + 4:
            raise self.error
        return True


SPACE = {
    "learning_rate": Scale([1, 2]), "n_epochs": Choice([2, 4], default=2),
    "gamma": Choice([0.45, 0.9], default=0.9),
}  # fmt: skip


class TestTheEnd:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ValueError("NaN"), "failed"),
            (KeyboardInterrupt(), "interrupted"),
            (SystemExit(1), "interrupted"),
        ],
    )
    @pytest.mark.parametrize("place", ["rollout", "update", "log"])
    def test_by_an_error_puts_all_back_and_says_how_it_ended(
        self, oracle: Oracle, server: ScriptedOracle, error: BaseException, reason: str,
        place: str, monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        model = ppo()
        before = own_state(model)

        def fail(*_: Any) -> None:
            raise error

        others = [Breaks(error)] if place == "rollout" else []
        if place == "update":
            monkeypatch.setattr(model.policy.optimizer, "step", fail)
        if place == "log":
            monkeypatch.setattr(PPO, "dump_logs", fail)
        with pytest.raises(type(error)) as caught:
            learn(oracle, model, SPACE, 5 * STEPS, *others)
        assert caught.value is error
        assert [finish.reason for finish in server.of("finish")] == [reason]
        after = own_state(model)
        del before["vars"], after["vars"]
        assert after == before

    def test_at_the_planned_step_is_completed(self, oracle: Oracle, server: ScriptedOracle) -> None:
        learn(oracle, ppo(), SPACE, 2 * STEPS)
        assert [finish.reason for finish in server.of("finish")] == ["completed"]

    def test_because_a_threshold_was_reached_is_a_good_one(
        self, oracle: Oracle, server: ScriptedOracle
    ) -> None:
        stop = StopTrainingOnRewardThreshold(reward_threshold=1.0, verbose=0)
        evaluation = EvalCallback(
            Monitor(environment()), callback_on_new_best=stop, n_eval_episodes=1,
            eval_freq=STEPS + 9, verbose=0,
        )  # fmt: skip
        learn(oracle, ppo(), SPACE, 5 * STEPS, evaluation)
        assert [finish.reason for finish in server.of("finish")] == ["reached"]
        # What the cut phase had brought by then is reported, too.
        assert [report.env_step for report, _, _ in server.of("report")] == [STEPS, STEPS + 9]

    def test_because_another_callback_wanted_it_is_an_interruption(
        self, oracle: Oracle, server: ScriptedOracle
    ) -> None:
        class Stops(BaseCallback):
            def _on_step(self) -> bool:
                return self.n_calls < STEPS + 5

        learn(oracle, ppo(), SPACE, 5 * STEPS, Stops())
        assert [finish.reason for finish in server.of("finish")] == ["interrupted"]

    def test_before_the_first_rollout_leaves_the_next_learn_alone(
        self, oracle: Oracle, server: ScriptedOracle
    ) -> None:
        class Refuses(BaseCallback):
            def _on_training_start(self) -> None:
                raise ValueError("no")

            def _on_step(self) -> bool:
                return True

        model = ppo()
        with pytest.raises(ValueError, match="no"):
            learn(oracle, model, SPACE, STEPS, Refuses())
        learn(oracle, model, SPACE)
        assert [finish.reason for finish in server.of("finish")] == ["interrupted", "completed"]
        assert type(model).__bases__ == (PPO,)


class TestRefusals:
    @pytest.mark.parametrize(
        ("space", "settings", "says"),
        [
            ({"n_steps": Choice([32, 64], default=32)}, {}, "'n_steps' .the rollout buffer"),
            ({"policy": Choice([1, 2], default=1)}, {}, "of PPO, got 'policy'"),
            ({"lr_schedule": Scale([1, 2])}, {}, "of PPO, got 'lr_schedule'"),
            ({"seed": Choice([1, 2], default=1)}, {}, "of PPO, got 'seed'"),
            (
                {"clip_range_vf": Scale([1, 2])},
                {"clip_range_vf": None},
                "a clip_range_vf, got None",
            ),
            ({"target_kl": Scale([0.5, 1])}, {"target_kl": None}, "with a target_kl, got None"),
            ({"ent_coef": Scale([0.5, 1])}, {"ent_coef": 0.0}, "ent_coef that factors can change"),
            ({"normalize_advantage": Scale([1, 2])}, {}, "use Choice or Categorical instead"),
            ({"normalize_advantage": Choice([0, 1], default=0)}, {}, "True or False"),
            ({"gamma": Choice([0.9, 1.1], default=0.9)}, {}, r"\[0, 1\] for gamma, got 1.1"),
            ({"gamma": Scale([1, 2])}, {}, r"\[0, 1\] for gamma, got 1.8"),
            ({"gamma": Choice([0.5, 1.0], default=1.0)}, {"gamma": 0.0}, "a gamma above 0"),
            ({"n_epochs": Choice([0, 1], default=1)}, {}, r"\[1, inf\] for n_epochs, got 0"),
            ({"n_epochs": Choice([1.5, 2], default=2)}, {}, "whole numbers for n_epochs, got 1.5"),
            ({"n_epochs": Scale([0.75, 1])}, {}, "whole numbers for n_epochs, got 1.5"),
            ({"vf_coef": Categorical(["a"], default="a")}, {}, "numbers for vf_coef, got 'a'"),
            ({"batch_size": Choice([16, 64], default=16)}, {}, "= 32 for batch_size, got 64"),
            ({"batch_size": Int(low=8, high=16, default=8)}, {}, "divisors of the rollout"),
            ({"batch_size": Choice([1, 16], default=16)}, {}, r"\[2, inf\] for batch_size, got 1"),
        ],
    )
    def test_name_the_hyperparameter_before_training(
        self, oracle: Oracle, server: ScriptedOracle, space: Any, settings: Any, says: str
    ) -> None:
        model = ppo(**settings)
        with pytest.raises(OracleMisconfigured, match=says):
            learn(oracle, model, space)
        assert server.of("start") == []
        assert model.num_timesteps == 0
        assert type(model).__bases__ == (PPO,)

    def test_name_what_another_algorithm_lacks(self, oracle: Oracle) -> None:
        with pytest.raises(OracleMisconfigured, match="of A2C, got 'clip_range'"):
            learn(oracle, a2c(), {"clip_range": Choice([0.1, 0.2], default=0.2)})

    def test_name_an_algorithm_that_learns_from_no_rollouts(
        self, oracle: Oracle, server: ScriptedOracle
    ) -> None:
        model = DQN("MlpPolicy", environment(), device="cpu", buffer_size=100)
        with pytest.raises(OracleMisconfigured, match=r"on-policy algorithm .*, got DQN"):
            model.learn(5, callback=OracleCallback(oracle, study="s", space={"gamma": Scale([1])}))
        assert server.of("start") == []

    def test_name_what_is_no_space_or_no_return_of_episodes(self, oracle: Oracle) -> None:
        with pytest.raises(OracleMisconfigured, match="learning_rate"):
            OracleCallback(oracle, study="s", space={"learning_rate": {"type": "relative"}})
        for returns in ("custom", {"kind": "phase_return"}):
            with pytest.raises(OracleMisconfigured, match="returns of episodes"):
                OracleCallback(oracle, study="s", space=SPACE, returns=returns)

    def test_name_a_second_callback(self, oracle: Oracle) -> None:
        second = OracleCallback(oracle, study="t", space=SPACE)
        model = ppo()
        with pytest.raises(OracleMisconfigured, match="one OracleCallback"):
            learn(oracle, model, SPACE, STEPS, second)


class TestWhatIsSaid:
    def test_an_environment_without_a_monitor(
        self, oracle: Oracle, caplog: pytest.LogCaptureFixture
    ) -> None:
        bare = DummyVecEnv([environment, environment])
        model = PPO("MlpPolicy", bare, **{**SMALL, **OWN})
        callback = learn(oracle, model, {"learning_rate": Scale([1, 2])}, 2 * STEPS)
        assert callback.job.stats.notices["no_episode_returns"] > 3
        lines = [r.getMessage() for r in caplog.records if "an episode ended" in r.getMessage()]
        assert len(lines) == 1
        assert "Monitor" in lines[0]

    def test_an_update_that_used_something_else(
        self, oracle: Oracle, server: ScriptedOracle
    ) -> None:
        class Stubborn(PPO):
            def train(self) -> None:
                self.n_epochs = 1
                super().train()

        model = Stubborn("MlpPolicy", environment(), **{**SMALL, **OWN})
        space = {"n_epochs": Choice([2, 4], default=2), "vf_coef": Scale([1, 2])}
        callback = learn(oracle, model, space, 3 * STEPS)
        assert callback.job.stats.applied_differently == 3
        report = server.of("report")[1][0]
        assert report.not_applied == [2]
        assert [each.hyperparameters for each in report.applied] == [{"n_epochs": 1}]
        assert model.n_epochs == OWN["n_epochs"]


def test_ppo_trains_with_what_the_oracle_chooses(server: ScriptedOracle, oracle: Oracle) -> None:
    torch.manual_seed(0)
    model = spied(PPO)("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=32, seed=0, device="cpu")
    shapes = [TensorShape(name=n, shape=tuple(p.shape)) for n, p in model.policy.named_parameters()]
    server.layout = sketch_layout(shapes, seed=1, width=2, orders=2)
    space = {
        "learning_rate": Scale([0.5, 1, 2]),
        "clip_range": Choice([0.1, 0.2, 0.3], default=0.2),
        "ent_coef": Float(low=0, high=0.02, default=0),
        "n_epochs": Int(low=1, high=3, default=2, bins=3),
    }
    callback = learn(oracle, model, space, 256, role="exploit")
    assert callback.job.stats.proposals == 4
    assert server.of("start")[0].total_env_steps == 256
    assert [message.env_step for message, _, _ in server.of("propose")] == [64, 128, 192, 256]
    assert "approx_kl" in server.of("propose")[1][0].signals
    seen = model.seen
    assert seen.rates == pytest.approx([2 * 3e-4] * 6)
    assert (seen.logged["train/clip_range"], len(seen.batches)) == (0.3, 3)
    returns = [list(returns) for _, returns, _ in server.of("report")]
    assert len(returns) == 4
    # an episode of CartPole gives 1 per step, and at most as much as there were steps
    assert 64 < sum(map(sum, returns)) <= 256
    assert len(server.of("finish")) == 1
