"""From a strategy's name to its hyper-agent: a row for each member of the protocol's union.

Adding a hyper-agent touches three places: its settings in the protocol's `Strategy`, its row here,
and its module. A module is imported when the first study asks for it: what serves keys of
hyper-states, an encoder, a memory with its graphs, a network, is not in a process that needs none.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from hyperoracle_protocol.space import bins_per_hyperparameter, default_bins
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.strategies.base import INDEX_RECALL, Given, HyperAgent
from hyperoracle_server.strategies.grid import HyperActionGrid


class StrategyRow(NamedTuple):
    """What is known of a strategy without its module.

    Attributes:
        agent: where its hyper-agent is, "module:Class".
        when: to use it, a sentence for people.
        by_keys: whether it decides by keys of hyper-states, which its jobs then send.
    """

    agent: str
    when: str
    by_keys: bool = False


_HERE = "hyperoracle_server.strategies"
_KEYED = "hyperoracle_server.keyed"

REGISTRY = {
    "cautious_config": StrategyRow(
        f"{_HERE}.one_config.cautious:CautiousConfigAgent",
        "Several jobs on one task: stay on the defaults until whole jobs show something better.",
    ),
    "best_config": StrategyRow(
        f"{_HERE}.one_config.best:BestConfigAgent",
        "The same with few values and many jobs: the best mean wins, without a model.",
    ),
    "anchored": StrategyRow(
        f"{_HERE}.value_model.anchored:AnchoredAgent",
        "The right values change while a job trains: a few held decisions in each job.",
    ),
    "kl_adaptive": StrategyRow(
        f"{_HERE}.baselines:KlAdaptiveAgent",
        "One job of PPO and a doubtful learning rate: it follows the KL divergence at once.",
    ),
    "bandit": StrategyRow(
        f"{_HERE}.bandit:BanditAgent",
        "One long job and no earlier ones: try values within it, the best of late more often.",
    ),
    "epgt": StrategyRow(
        f"{_KEYED}.epgt:EpisodicAgent",
        "To reproduce the paper: a memory of training states, read at every update.",
        by_keys=True,
    ),
    "dqn": StrategyRow(
        f"{_KEYED}.dqn.agent:DqnAgent",
        "To compare with the paper's rival: a network in the memory's place.",
        by_keys=True,
    ),
    "random": StrategyRow(
        f"{_HERE}.baselines:RandomAgent",
        "To compare with chance, or to collect what happens at all values alike.",
    ),
    "fixed": StrategyRow(
        f"{_HERE}.baselines:FixedAgent",
        "To compare with the defaults, with everything else as in other studies.",
    ),
}
"""By name, those that help most users first."""


def load_class(where: str) -> Any:
    """The class at "module:Class"; its module is imported if it was not."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def agent_class(strategy: str) -> type[HyperAgent[Any]]:
    """The class of a strategy's hyper-agents, by the strategy's name."""
    found: type[HyperAgent[Any]] = load_class(REGISTRY[strategy].agent)
    return found


def grid_of(definition: StudyDefinition) -> HyperActionGrid:
    """The joint grid of a study's search space."""
    space = definition.space
    return HyperActionGrid(bins_per_hyperparameter(space), default_bins(space))


def make_hyper_agent(
    definition: StudyDefinition, seed: int, index_recall: float = INDEX_RECALL
) -> HyperAgent[Any]:
    """The hyper-agent that a study's definition asks for, without memories.

    Args:
        definition: the study's.
        seed: the study's.
        index_recall: the share of true neighbours that search graphs have to find.
    """
    given = Given(definition, grid_of(definition), seed, index_recall)
    return agent_class(definition.strategy.name).of(given)
