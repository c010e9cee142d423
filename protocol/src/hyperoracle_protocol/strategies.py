"""Strategies: who chooses a study's hyperparameters, and how."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from hyperoracle_protocol.base import Definition, Name
from hyperoracle_protocol.hyper_state import MAX_ORDERS, MAX_SKETCH_WIDTH, Dtype
from hyperoracle_protocol.space import Categorical, SearchSpace

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class HyperStateSetting(Definition):
    """Which picture of the training state the jobs send.

    Attributes:
        kind: `sketch` (Eq. 2 of the paper) or `statistics` (invariant numbers that mean the same
            in every architecture).
        width: columns of the sketch.
        orders: N_order, how many past gradients.
        last_weights: how many of the model's last weight tensors.
        last_biases: how many of its last bias tensors.
        dtype: of the features on the wire and on disk.
    """

    kind: Literal["sketch", "statistics"] = "sketch"
    width: int = Field(default=8, ge=1, le=MAX_SKETCH_WIDTH)
    orders: int = Field(default=2, ge=0, le=MAX_ORDERS)
    last_weights: int = Field(default=10, ge=0, le=256)
    last_biases: int = Field(default=10, ge=0, le=256)
    dtype: Dtype = "float16"


class EncoderSetting(Definition):
    """How a hyper-state becomes a key.

    Attributes:
        kind: `vae` (trained online), `random` (a fixed random mapping), `plain` (the standardised
            features themselves; for statistics).
        key_size: h, dimensions of the key (not for `plain`).
        projected_width: d, columns of the learned part of C.
        hidden_size: units of the hidden layer.
        publish_seconds: least time between two encoder versions.
        minimum_samples: hyper-states to collect before the first training round.
        gradient_updates: per training round.
        batch_size: hyper-states per gradient update.
        replay: hyper-states that a training round draws from, newest first.
    """

    kind: Literal["vae", "random", "plain"] = "vae"
    key_size: int = Field(default=32, ge=1, le=256)
    projected_width: int = Field(default=4, ge=1, le=MAX_SKETCH_WIDTH)
    hidden_size: int = Field(default=64, ge=1, le=1024)
    publish_seconds: float = Field(default=30.0, ge=0, le=86_400)
    minimum_samples: int = Field(default=32, ge=2, le=100_000)
    gradient_updates: int = Field(default=64, ge=1, le=100_000)
    batch_size: int = Field(default=64, ge=1, le=4096)
    replay: int = Field(default=1024, ge=1, le=100_000)


class MemorySetting(Definition):
    """The episodic memory (Eq. 3 and 4 of the paper).

    Attributes:
        capacity: N_mem, the most (key, hyper-action, value) triples; past it the earliest goes.
        neighbours_read: K of Eq. 3.
        neighbours_write: K_w of Eq. 4.
        write_rate: beta of Eq. 4.
        write_rule: `average` (Eq. 4) or `max`.
        reading: `per-action` (for each hyper-action the K nearest keys where it was taken) or
            `shared` (the K nearest keys, whatever was done there).
        unknown: the value of a hyper-action that no neighbour took: `kernel-mean` of what the
            neighbours know, or `zero`, which mimics the authors' code.
        index: `exact`, `hnsw`, or `auto` (exact below a measured size).
    """

    capacity: int = Field(default=10_000, ge=1, le=1_000_000)
    neighbours_read: int = Field(default=5, ge=1, le=100)
    neighbours_write: int = Field(default=3, ge=1, le=100)
    write_rate: float = Field(default=0.5, gt=0, lt=1)
    write_rule: Literal["average", "max"] = "average"
    reading: Literal["per-action", "shared"] = "per-action"
    unknown: Literal["kernel-mean", "zero"] = "kernel-mean"
    index: Literal["auto", "exact", "hnsw"] = "auto"


class ExplorationSetting(Definition):
    """epsilon falls linearly from `start` to `end` over the first `fraction` of a job."""

    start: Fraction = 1.0
    end: Fraction = 0.01
    fraction: float = Field(default=0.5, gt=0, le=1)


class LearningEpisodeSetting(Definition):
    """How returns become hyper-returns (Eq. 1).

    Attributes:
        phases: n, how many environment phases a learning episode spans.
        write_every: within an update phase every so many-th proposal is written to the memory,
            and the last one always.
    """

    phases: int = Field(default=1, ge=1, le=1000)
    write_every: int = Field(default=1, ge=1, le=100_000)


class QLearningSetting(Definition):
    """The Q-network on keys, its replay and its training (Mnih et al. 2015).

    Attributes:
        hidden_size: units of each hidden layer.
        hidden_layers: how many there are, with rectifiers.
        learning_rate: of Adam.
        batch_size: transitions per gradient step.
        replay_capacity: the most transitions kept; past it the earliest goes.
        replay_start: transitions to collect before the first gradient step.
        target_period: gradient steps after which the target network becomes the network's copy.
        discount: gamma within a learning episode; 1 is the paper's hyper-return.
        gradient_steps: per credited decision that is learned from.
        values: the network's outputs are `standardised` by the running moments of the
            hyper-returns, or the `raw` hyper-returns.
    """

    hidden_size: int = Field(default=64, ge=1, le=1024)
    hidden_layers: int = Field(default=2, ge=0, le=8)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    batch_size: int = Field(default=32, ge=1, le=4096)
    replay_capacity: int = Field(default=10_000, ge=1, le=1_000_000)
    replay_start: int = Field(default=32, ge=1, le=1_000_000)
    target_period: int = Field(default=100, ge=1, le=1_000_000)
    discount: Fraction = 1.0
    gradient_steps: int = Field(default=1, ge=1, le=1000)
    values: Literal["standardised", "raw"] = "standardised"


class StrategyDefinition(Definition):
    """What the settings of every strategy say of it, so that nobody need know it by its name.

    Attributes:
        shares: whether a job profits from what other jobs of its study found.
        holds: whether it holds its decisions itself, and takes no `hold`.
    """

    shares: ClassVar[bool] = True
    holds: ClassVar[bool] = False

    @property
    def wanted_signal(self) -> str | None:
        """The signal of proposals that it decides by, None where it needs none."""
        return None

    def check_space(self, space: SearchSpace) -> None:
        """Refuse a space in which it cannot choose.

        Raises:
            ValueError: what is missing, and what to do.
        """


class KeyedStrategy(StrategyDefinition):
    """What the strategies on keys of hyper-states share."""

    hyper_state: HyperStateSetting = HyperStateSetting()
    encoder: EncoderSetting = EncoderSetting()
    exploration: ExplorationSetting = ExplorationSetting()
    learning_episode: LearningEpisodeSetting = LearningEpisodeSetting()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.encoder.kind == "plain" and self.hyper_state.kind == "sketch":
            raise ValueError(
                "expected encoder kind 'vae' or 'random' with a sketch, got 'plain': "
                "a plain key of thousands of features is too large; use hyper_state 'statistics'"
            )
        return self


class EpgtStrategy(KeyedStrategy):
    """Episodic Policy Gradient Training, faithful to the paper."""

    name: Literal["epgt"] = "epgt"
    memory: MemorySetting = MemorySetting()


class DqnStrategy(KeyedStrategy):
    """The paper's parametric rival: a deep Q-network on the same keys and hyper-actions."""

    name: Literal["dqn"] = "dqn"
    q_learning: QLearningSetting = QLearningSetting()

    @model_validator(mode="after")
    def _check_replay(self) -> Self:
        setting = self.q_learning
        if setting.replay_start > setting.replay_capacity:
            raise ValueError(
                f"expected replay_start of at most replay_capacity ({setting.replay_capacity}), "
                f"got {setting.replay_start}: it would never train"
            )
        return self


class RandomStrategy(StrategyDefinition):
    """A uniformly random hyper-action at every decision."""

    shares: ClassVar[bool] = False
    name: Literal["random"] = "random"


class FixedStrategy(StrategyDefinition):
    """Always the defaults."""

    shares: ClassVar[bool] = False
    name: Literal["fixed"] = "fixed"


class RoleSetting(Definition):
    """Which roles the study gives to jobs that ask for none.

    Attributes:
        controls_first: so many jobs, the study's first, stay on the defaults: nothing is tried
            before it is known what is usual there.
        control_every: after them one of every so many jobs stays on the defaults, for comparison;
            0: none.
        exploration_jobs: another job explores with the probability 1 − exploring jobs that
            ended / `exploration_jobs`,
        least_exploration: and at least with this one; else it exploits.
    """

    controls_first: int = Field(default=2, ge=0, le=1000)
    control_every: int = Field(default=5, ge=0, le=1000)
    exploration_jobs: int = Field(default=16, ge=1, le=100_000)
    least_exploration: Fraction = 0.1


class AnchoredStrategy(StrategyDefinition):
    """Few held decisions per job, valued relative to the default; guarded.

    Attributes:
        decisions_per_job: over its length in env steps, evenly spread.
        caution: c, how many standard deviations an effect must be above 0 to be exploited; use 1
            where the default is well tuned.
        jobs_needed: distinct jobs that must have left the default in a direction before an
            exploiting job does.
        roles: of jobs that ask for none.
    """

    holds: ClassVar[bool] = True
    name: Literal["anchored"] = "anchored"
    decisions_per_job: int = Field(default=4, ge=1, le=8)
    caution: float = Field(default=0.5, ge=0, le=100)
    jobs_needed: int = Field(default=3, ge=1, le=1000)
    roles: RoleSetting = RoleSetting()


class BestConfigStrategy(StrategyDefinition):
    """One hyper-action per job; later jobs get what whole jobs did best with.

    Attributes:
        jobs_needed: whole jobs that a hyper-action must have behind it, the default as well,
            before another than the default is exploited.
        roles: of jobs that ask for none.
    """

    holds: ClassVar[bool] = True
    name: Literal["best_config"] = "best_config"
    jobs_needed: int = Field(default=2, ge=1, le=1000)
    roles: RoleSetting = RoleSetting()


class CautiousConfigStrategy(StrategyDefinition):
    """One hyper-action per job; another than the default where whole jobs show it to be better.

    Attributes:
        caution: c, how many standard deviations a bin's effect on the score must be above 0 to be
            exploited; use 1 where the default is well tuned.
        jobs_needed: whole jobs that must have left the default in a direction before an exploiting
            job does.
        roles: of jobs that ask for none.
    """

    holds: ClassVar[bool] = True
    name: Literal["cautious_config"] = "cautious_config"
    caution: float = Field(default=0.5, ge=0, le=100)
    jobs_needed: int = Field(default=3, ge=1, le=1000)
    roles: RoleSetting = RoleSetting(exploration_jobs=12)


UntriedSetting = Literal["first", "zero"]


class BanditStrategy(StrategyDefinition):
    """ULTHO: a bandit per job, which plays one hyperparameter at a time.

    Attributes:
        window: how many of the newest rewards a hyperparameter or a value of it is judged by.
        coefficient: c of the upper confidence bound, in units of the return.
        untried: options without a reward come `first`, or count as `zero` with one play, as in the
            authors' code; that suits returns of a few units around 0.
    """

    shares: ClassVar[bool] = False
    name: Literal["bandit"] = "bandit"
    window: int = Field(default=10, ge=1, le=1000)
    coefficient: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    untried: UntriedSetting = "first"


class KlAdaptiveStrategy(StrategyDefinition):
    """PPO's learning rate follows the KL divergence of its updates; no memory.

    Attributes:
        hyperparameter: of the space that is adapted; numbers above 0.
        signal: of the proposals that brings the KL divergence of the last update, in nats.
        target_kl: above its double the rate is divided by `factor`, below its half multiplied.
        factor: of one step.
    """

    shares: ClassVar[bool] = False
    name: Literal["kl_adaptive"] = "kl_adaptive"
    hyperparameter: Name = "learning_rate"
    signal: str = Field(default="approx_kl", min_length=1, max_length=128)
    target_kl: float = Field(default=0.01, gt=0, le=10)
    factor: float = Field(default=1.5, gt=1, le=10)

    @property
    def wanted_signal(self) -> str | None:
        """The KL divergence's."""
        return self.signal

    def check_space(self, space: SearchSpace) -> None:
        """Refuse a space without the hyperparameter.

        Raises:
            ValueError: it is missing, or has values that are not numbers above 0.
        """
        found = space.get(self.hyperparameter)
        if found is None:
            raise ValueError(
                f"expected {self.hyperparameter!r} in the space for the strategy kl_adaptive, "
                f"got {sorted(space)}: add it, or name another as `hyperparameter`"
            )
        if isinstance(found, Categorical) or min(found.values) <= 0:
            raise ValueError(
                f"expected numbers above 0 as values of {self.hyperparameter!r} for the strategy "
                f"kl_adaptive, got {list(found.values)}"
            )


Strategy = Annotated[
    EpgtStrategy
    | DqnStrategy
    | RandomStrategy
    | FixedStrategy
    | AnchoredStrategy
    | BestConfigStrategy
    | CautiousConfigStrategy
    | BanditStrategy
    | KlAdaptiveStrategy,
    Field(discriminator="name"),
]
"""Who chooses; on the wire told apart by `name`."""

STRATEGIES: dict[str, type[StrategyDefinition]] = {
    kind.model_fields["name"].default: kind for kind in get_args(get_args(Strategy)[0])
}
"""The settings of each strategy by its name: all that there are, in the union's order."""


DEFAULT_STRATEGY = CautiousConfigStrategy()
"""Of a study whose definition names none: what did best in the project's own comparisons."""
