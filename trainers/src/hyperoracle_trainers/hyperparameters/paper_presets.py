"""The settings of the paper's experiments, as data: `hyperoracle train --preset NAME`.

A preset is a trainer's settings, what an oracle may choose, and how its study remembers. Every
value names its origin. Where the paper and its authors' code define a quantity in another way than
this trainer does, the value is translated, and the origin says how.

Source:
    Le et al., "Episodic Policy Gradient Training" (AAAI 2022), and the code that its authors
    released, https://github.com/thaihungle/EPGT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hyperoracle_trainers.hyperparameters.arguments import SETTINGS_CLASSES
from hyperoracle_trainers.hyperparameters.settings import AnySettings, SettingsError

PAPER = "paper"
OURS = "ours"
CODE = "authors' code"
MUJOCO_SCRIPT = "authors' script exp_run_mjc.py"
CLASSIC_SCRIPT = "authors' script exp_run_classic.py"
ATARI_SCRIPT = "authors' script exp_run_atari.py"


@dataclass(frozen=True)
class Sourced:
    """A value and where it comes from."""

    value: Any
    origin: str


@dataclass(frozen=True, kw_only=True)
class PaperPreset:
    """One setting of the paper's experiments.

    Attributes:
        name: on the command line.
        experiment: where in the paper, and for what.
        algorithm: ``"ppo"``, ``"a2c"`` or ``"acktr"``.
        env_id: the environment if none is given.
        other_env_ids: environments that the paper trains in the same setting.
        trainer: values by name of a setting; settings that are left out keep the algorithm's
            default.
        space: bins by hyperparameter, as `--space` takes them.
        study: values by name within the study's definition, such as ``"memory.capacity"`` of
            the strategy, or ``"returns"``, which number is the return.
    """

    name: str
    experiment: str
    algorithm: str
    env_id: str
    other_env_ids: tuple[str, ...] = ()
    trainer: Mapping[str, Sourced]
    space: Mapping[str, Sourced]
    study: Mapping[str, Sourced]

    def settings(self, env_id: str | None = None, **overrides: Any) -> AnySettings:
        """Return the trainer's settings.

        Args:
            env_id: None takes the preset's environment.
            **overrides: settings that replace the preset's.

        Raises:
            SettingsError: an unknown environment or setting, or a meaningless value.
        """
        settings_class: Any = SETTINGS_CLASSES[self.algorithm]
        values = {name: each.value for name, each in self.trainer.items()} | overrides
        unknown = set(values) - set(settings_class.__dataclass_fields__)
        if unknown:
            raise SettingsError(
                f"{', '.join(sorted(unknown))}: expected settings of {settings_class.__name__}; "
                "see its documentation for their names"
            )
        settings: AnySettings = settings_class(env_id=env_id or self.env_id, **values)
        return settings

    def space_entries(self) -> list[str]:
        """Return the search space as `--space` takes it."""
        return [f"{name}={each.value}" for name, each in self.space.items()]

    def strategy(self, name: str = "epgt") -> dict[str, Any]:
        """Return the definition of the strategy, for `hyperoracle_client.Oracle.start_job`.

        Args:
            name: ``"epgt"``; or ``"dqn"``, which has all but the memory's settings.
        """
        strategy: dict[str, Any] = {"name": name}
        for path, each in self.study.items():
            section, dot, field = path.partition(".")
            if dot and (name == "epgt" or section != "memory"):
                strategy.setdefault(section, {})[field] = each.value
        return strategy

    def returns(self) -> str:
        """Return which number is the study's return."""
        returns: str = self.study["returns"].value
        return returns


def _from(origin: str, **values: Any) -> dict[str, Sourced]:
    return {name: Sourced(value, origin) for name, value in values.items()}


def _scale(*factors: float) -> str:
    return "scale:" + ",".join(f"{factor:.6g}" for factor in factors)


_CLIP_BINS = "choice:0.1,0.2,0.3,0.4,0.5"
_LAMBDA_BINS = "choice:0.9,0.925,0.95,0.975,0.99"
_THREE_FACTORS = _scale(0.5, 1, 2)


def _study(script: str, capacity: int, write_every: int) -> dict[str, Sourced]:
    return {
        "memory.capacity": Sourced(capacity, script),
        "memory.neighbours_read": Sourced(5, script),
        "memory.neighbours_write": Sourced(3, f"{PAPER}, Ablation Studies; {script}"),
        "memory.write_rule": Sourced("average", f"{PAPER}, Eq. 4"),
        "memory.write_rate": Sourced(0.5, CODE),
        "learning_episode.write_every": Sourced(write_every, script),
        "learning_episode.phases": Sourced(1, f"{PAPER}, Hyper-reward (n)"),
        "hyper_state.kind": Sourced("sketch", f"{PAPER}, Eq. 2"),
        "hyper_state.orders": Sourced(2, f"{PAPER}, Ablation Studies (N_order)"),
        "hyper_state.last_weights": Sourced(10, CODE),
        "hyper_state.last_biases": Sourced(10, CODE),
        "encoder.kind": Sourced("vae", PAPER),
        "encoder.projected_width": Sourced(4, f"{CODE} (context_size)"),
        "exploration.start": Sourced(1.0, CODE),
        "exploration.end": Sourced(0.01, CODE),
        "exploration.fraction": Sourced(0.5, CODE),
        "returns": Sourced("phase_return", f"{PAPER}, Eq. 1"),
    }


_SHARED_BY_ALL = _from(CODE, gamma=0.99, decay_learning_rate=True)
_VECTOR_OBSERVATIONS = _from(CODE, normalise_observations=True, normalise_rewards=True) | _from(
    CODE, hidden_sizes=(64, 64)
)
_PPO_CODE = {
    **_SHARED_BY_ALL,
    **_from(CODE, clip_range=0.2, max_grad_norm=0.5, adam_epsilon=1e-5),
    "value_loss_coefficient": Sourced(0.25, f"{CODE}: 0.5 of half the squared error"),
    "value_clip_range": Sourced(
        0.2, f"{CODE}, where the larger of the clipped and the unclipped error counts"
    ),
    "normalise_advantages": Sourced(True, f"{CODE}, over the rollout; here over the minibatch"),
    "decisions": Sourced("minibatch", CODE),
}
_MUJOCO_PPO: dict[str, Any] = {
    "algorithm": "ppo",
    "trainer": {
        **_PPO_CODE,
        **_VECTOR_OBSERVATIONS,
        **_from(
            MUJOCO_SCRIPT,
            total_env_steps=1_000_000,
            number_of_envs=1,
            rollout_length=2048,
            learning_rate=3e-4,
            epochs=10,
            number_of_minibatches=32,
            gae_lambda=0.95,
            entropy_coefficient=0.0,
        ),
    },
    "space": {
        **_from(f"{MUJOCO_SCRIPT}; {CODE}", learning_rate=_THREE_FACTORS),
        **_from(CODE, clip_range=_CLIP_BINS, gae_lambda=_LAMBDA_BINS),
        **_from(f"{MUJOCO_SCRIPT}; {CODE}", number_of_minibatches=_THREE_FACTORS),
    },
    "study": _study(MUJOCO_SCRIPT, capacity=10_000, write_every=20),
}
_A2C_CODE = {
    **_SHARED_BY_ALL,
    **_VECTOR_OBSERVATIONS,
    **_from(
        CODE,
        gae_lambda=0.95,
        entropy_coefficient=0.01,
        value_loss_coefficient=0.5,
        max_grad_norm=0.5,
        rmsprop_alpha=0.99,
        rmsprop_epsilon=1e-5,
        momentum=0.0,
        normalise_advantages=False,
    ),
    **_from(CLASSIC_SCRIPT, rollout_length=5, learning_rate=7e-4),
}
_A2C_STUDY = _study(CLASSIC_SCRIPT, capacity=5_000, write_every=10)
_NARROW_FACTORS = _scale(1 / 2.5, 1 / 2, 1 / 1.5, 1, 1.5, 2, 2.5)
_WIDE_FACTORS = _scale(1 / 16, 1 / 11, 1 / 6, 1, 6, 11, 16)
_ATARI_IMAGES = _from(CODE, preprocessing="classic", clip_rewards=True, shared_trunk=True)
_ATARI_ROLLOUTS = {
    **_from(f"{PAPER}; the script has 10 million", total_env_steps=20_000_000),
    **_from(
        ATARI_SCRIPT,
        number_of_envs=32,
        rollout_length=128,
        entropy_coefficient=0.01,
        gae_lambda=0.95,
    ),
}
_ATARI_STUDY = _study(ATARI_SCRIPT, capacity=5_000, write_every=30)
_ATARI_PPO: dict[str, Any] = {
    "algorithm": "ppo",
    "trainer": {
        **_PPO_CODE,
        **_ATARI_IMAGES,
        **_ATARI_ROLLOUTS,
        **_from(
            f"{ATARI_SCRIPT}, whose flags say so though it runs ACKTR",
            learning_rate=2.5e-4,
            epochs=10,
            number_of_minibatches=32,
        ),
    },
    "space": {
        **_from(f"{PAPER}; {CODE}", learning_rate=_THREE_FACTORS),
        **_from(f"{PAPER}; {CODE}", clip_range=_CLIP_BINS),
        **_from(f"{PAPER}; {CODE}", number_of_minibatches=_THREE_FACTORS),
    },
    "study": _ATARI_STUDY,
}

_ALL = (
    PaperPreset(
        name="mountaincar-a2c",
        experiment="Fig. 2a: why episodic control",
        algorithm="a2c",
        env_id="MountainCarContinuous-v0",
        trainer={
            **_A2C_CODE,
            **_from(f"{PAPER} (4,000 updates)", total_env_steps=20_000, number_of_envs=1),
        },
        space=_from(f"{PAPER} (the range); factors between: {OURS}", learning_rate=_WIDE_FACTORS),
        study=_A2C_STUDY,
    ),
    PaperPreset(
        name="bipedalwalker-a2c",
        experiment="Fig. 2b: why episodic control",
        algorithm="a2c",
        env_id="BipedalWalker-v3",
        trainer={
            **_A2C_CODE,
            **_from(CLASSIC_SCRIPT, total_env_steps=4_000_000, number_of_envs=128),
        },
        space=_from(f"{PAPER} (the range); {CLASSIC_SCRIPT}", learning_rate=_NARROW_FACTORS),
        study=_A2C_STUDY,
    ),
    PaperPreset(
        name="mujoco-a2c",
        experiment="Table 1: against sequential search",
        algorithm="a2c",
        env_id="HalfCheetah-v5",
        other_env_ids=("Hopper-v5", "Ant-v5", "Walker2d-v5"),
        trainer={
            **_A2C_CODE,
            **_from(PAPER, total_env_steps=5_000_000),
            **_from(f"{PAPER} (the setting of Paul et al. 2019)", number_of_envs=40),
        },
        space=_from(f"{OURS}: not said; those of {CLASSIC_SCRIPT}", learning_rate=_NARROW_FACTORS),
        study=_A2C_STUDY,
    ),
    PaperPreset(
        name="box2d-ppo",
        experiment="Table 2: against parallel search",
        env_id="BipedalWalker-v3",
        other_env_ids=("LunarLanderContinuous-v3",),
        **_MUJOCO_PPO,
    ),
    PaperPreset(
        name="mujoco-ppo",
        experiment="Mujoco, Fig. 3; Table 2: against parallel search",
        env_id="HalfCheetah-v5",
        other_env_ids=("Hopper-v5", "Walker2d-v5", "Swimmer-v5", "InvertedDoublePendulum-v5"),
        **_MUJOCO_PPO,
    ),
    PaperPreset(
        name="mujoco-ppo-10m",
        experiment="Mujoco: the two tasks of ten million env steps",
        env_id="Humanoid-v5",
        other_env_ids=("Ant-v5",),
        **{
            **_MUJOCO_PPO,
            "trainer": {**_MUJOCO_PPO["trainer"], **_from(PAPER, total_env_steps=10_000_000)},
        },
    ),
    PaperPreset(
        name="atari-acktr",
        experiment="Atari, against tuned ACKTR",
        algorithm="acktr",
        env_id="ALE/Alien-v5",
        other_env_ids=("ALE/MsPacman-v5", "ALE/Qbert-v5"),
        trainer={
            **_SHARED_BY_ALL,
            **_ATARI_IMAGES,
            **_ATARI_ROLLOUTS,
            **_from(ATARI_SCRIPT, value_loss_coefficient=0.5),
            "learning_rate": Sourced(1.0, f"{CODE}: its learning rate of K-FAC is our step_size"),
            "kl_clip": Sourced(0.0005, f"{CODE}: 0.001 in a KL divergence without its factor ½"),
            "fisher_coefficient": Sourced(2.0, f"{CODE}: squared errors without the factor ½"),
            **_from(
                CODE,
                step_size=0.25,
                damping=0.01,
                statistics_period=1,
                inversion_period=10,
                statistics_decay=0.99,
                momentum=0.9,
                weight_decay=0.0,
                normalise_advantages=False,
            ),
            **_from(f"{CODE}: gradients are not shortened", max_grad_norm=1e6),
        },
        space={
            **_from(
                f"{PAPER}; {CODE}: 0.001, 0.002, 0.003 without the factor ½",
                kl_clip="choice:0.0005,0.001,0.0015",
            ),
            **_from(f"{PAPER}; {CODE}", step_size=_THREE_FACTORS),
            **_from(f"{PAPER}; {CODE}", value_loss_coefficient=_THREE_FACTORS),
        },
        study=_ATARI_STUDY,
    ),
    PaperPreset(
        name="atari-ppo",
        experiment="Atari, against tuned PPO",
        env_id="ALE/Alien-v5",
        other_env_ids=("ALE/MsPacman-v5", "ALE/Qbert-v5"),
        **_ATARI_PPO,
    ),
    PaperPreset(
        name="ablation-encoder",
        experiment="Fig. 4a: the VAE against encoder.kind=random",
        algorithm="a2c",
        env_id="MountainCar-v0",
        trainer={
            **_A2C_CODE,
            **_from(f"{PAPER}: the keys are shown then", total_env_steps=5_000),
            **_from(f"{OURS}: as mountaincar-a2c", number_of_envs=1),
        },
        space=_from(f"{OURS}: as mountaincar-a2c", learning_rate=_WIDE_FACTORS),
        study=_A2C_STUDY,
    ),
    PaperPreset(
        name="ablation-writing",
        experiment="Fig. 4b: memory.neighbours_write of 1, 3, 5, 10; write_rule average, max",
        env_id="ALE/Alien-v5",
        **{
            **_ATARI_PPO,
            "study": {**_ATARI_STUDY, "memory.neighbours_read": Sourced(3, PAPER)},
        },
    ),
    PaperPreset(
        name="ablation-order",
        experiment="Fig. 4c: hyper_state.orders of 0, 1, 2, 4",
        env_id="ALE/MsPacman-v5",
        **_ATARI_PPO,
    ),
)

PAPER_PRESETS: Mapping[str, PaperPreset] = MappingProxyType({each.name: each for each in _ALL})
"""All presets by name."""
