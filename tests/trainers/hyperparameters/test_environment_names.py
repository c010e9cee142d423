from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from hyperoracle_trainers.environments.vector import environments_of
from hyperoracle_trainers.hyperparameters import environment_names
from hyperoracle_trainers.hyperparameters.environment_names import specification_of
from hyperoracle_trainers.hyperparameters.presets import default_settings, family_of
from hyperoracle_trainers.hyperparameters.settings import PPOSettings, SettingsError

REGISTERING = """
import gymnasium
gymnasium.register("InModule-v0", "gymnasium.envs.classic_control.cartpole:CartPoleEnv",
                   max_episode_steps={steps})
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module in the current folder that registers InModule-v0; its name."""
    name = "my_environments"
    (tmp_path / f"{name}.py").write_text(REGISTERING.format(steps=7))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(tmp_path))])
    yield name
    sys.modules.pop(name, None)
    gymnasium.registry.pop("InModule-v0", None)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is said of names, as if for the first time in this process."""
    environment_names._say_once.cache_clear()
    return caplog


def test_a_module_of_the_current_folder_is_imported_for_its_environment(own_module: str) -> None:
    settings = default_settings("ppo", f"{own_module}:InModule-v0", number_of_envs=2)
    assert settings.env_id == f"{own_module}:InModule-v0", "another process has to find it again"
    assert specification_of(settings.env_id).max_episode_steps == 7
    environments_of(settings, 2, seed=0).close()


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("nowhere_at_all:X-v0", r"'nowhere_at_all' does not import \(ModuleNotFoundError: .*start"),
        (":X-v0", r"module '' does not import"),
        ("math:X-v0", r"expected a registered Gymnasium environment, got 'math:X-v0'"),
        ("CartPole", r"\); did you mean CartPole-v[01] or CartPole-v[01]\? If not, write"),
        ("CartPoll-v1", r"doesn't exist\.?\); did you mean CartPole-v1"),
        ("BreakoutNoFrameskip-v9", r"expected a registered"),
        ("Breakoud-v4", r"expected a registered"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line_with_the_nearest(env_id: str, message: str) -> None:
    with pytest.raises(SettingsError, match=rf"^env_id: .*{message}") as error:
        PPOSettings(env_id=env_id)
    assert "\n" not in str(error.value)


def test_a_module_that_fails_is_told_with_its_own_words(tmp_path: Path, own_module: str) -> None:
    (tmp_path / f"{own_module}.py").write_text("raise RuntimeError('no\\n  licence')")
    with pytest.raises(SettingsError, match=r"RuntimeError: no licence\); install it"):
        PPOSettings(env_id=f"{own_module}:InModule-v0")


@pytest.mark.parametrize("kind", ["NoFrameskip", "Deterministic"])
def test_old_names_of_atari_games_are_todays_and_it_is_said_once(
    kind: str, said: pytest.LogCaptureFixture
) -> None:
    settings = default_settings("ppo", f"Breakout{kind}-v4")
    assert settings.env_id == "ALE/Breakout-v5"
    assert settings.preprocessing == "classic"
    assert settings == default_settings("ppo", "ALE/Breakout-v5")
    assert len(said.messages) == 1
    assert "4 frames a step, no sticky actions" in said.text


@pytest.mark.parametrize(
    ("env_id", "means"),
    [
        ("Breakout-v0", r"2 to 5 frames at random a step and sticky actions \(0.25\)"),
        ("Breakout-v4", r"2 to 5 frames at random a step and no sticky actions"),
        ("BreakoutNoFrameskip-v0", r"1 frame, usually made 4, a step and sticky actions"),
        ("PongDeterministic-v0", r"4 frames a step and sticky actions"),
        ("Breakout-ram-v4", r"shows the console's memory; name ALE/Breakout-v5"),
        ("Breakout-ramNoFrameskip-v4", r"shows the console's memory; name ALE/Breakout-v5"),
    ],
)
def test_an_old_name_that_no_preprocessing_matches_is_refused_with_todays(
    env_id: str, means: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^env_id: .*{means}") as error:
        PPOSettings(env_id=env_id)
    assert "ALE/" in str(error.value)


def test_an_old_name_contradicts_sticky_actions() -> None:
    with pytest.raises(SettingsError, match=r"no sticky actions, got machado; leave it out"):
        default_settings("ppo", "PongNoFrameskip-v4", preprocessing="machado")


def test_a_game_that_is_registered_with_what_the_trainers_do_not_do_is_refused() -> None:
    gymnasium.register(
        "RamPong-v0", "ale_py.env:AtariEnv", kwargs={"game": "pong", "obs_type": "ram"}
    )
    with pytest.raises(SettingsError, match=r"without obs_type, got 'RamPong-v0'"):
        PPOSettings(env_id="RamPong-v0")


def test_other_environments_keep_their_names(said: pytest.LogCaptureFixture) -> None:
    assert family_of("CarRacing-v3") == "box2d"
    assert PPOSettings(env_id="CartPole-v0").env_id == "CartPole-v0"
    assert not said.messages
