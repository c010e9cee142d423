"""From a study's definition to its hyper-agent: the one place that knows them all."""

from __future__ import annotations

from hyperoracle_protocol.space import Categorical, bins_per_hyperparameter, default_bins
from hyperoracle_protocol.strategies import (
    AnchoredStrategy,
    BanditStrategy,
    BestConfigStrategy,
    CautiousConfigStrategy,
    DqnStrategy,
    EpgtStrategy,
    FixedStrategy,
    KlAdaptiveStrategy,
    RandomStrategy,
)
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.keyed.dqn.agent import DqnAgent
from hyperoracle_server.keyed.epgt import EpisodicAgent
from hyperoracle_server.strategies.anchored import AnchoredAgent
from hyperoracle_server.strategies.bandit import BanditAgent
from hyperoracle_server.strategies.base import HyperAgent
from hyperoracle_server.strategies.best_config import BestConfigAgent
from hyperoracle_server.strategies.cautious_config import CautiousConfigAgent
from hyperoracle_server.strategies.fixed_and_random import FixedAgent, RandomAgent
from hyperoracle_server.strategies.grid import HyperActionGrid
from hyperoracle_server.strategies.kl_adaptive import KlAdaptiveAgent


def grid_of(definition: StudyDefinition) -> HyperActionGrid:
    """The joint grid of a study's search space."""
    space = definition.space
    return HyperActionGrid(bins_per_hyperparameter(space), default_bins(space))


def make_hyper_agent(
    definition: StudyDefinition, seed: int, index_recall: float = 0.95
) -> HyperAgent:
    """The hyper-agent that a study's definition asks for, without memories.

    Args:
        definition: the study's.
        seed: the study's.
        index_recall: the share of true neighbours that search graphs have to find.
    """
    grid = grid_of(definition)
    strategy = definition.strategy
    ordered = [not isinstance(h, Categorical) for h in definition.space.values()]
    match strategy:
        case AnchoredStrategy():
            return AnchoredAgent(grid, ordered, strategy)
        case EpgtStrategy():
            return EpisodicAgent(grid, strategy, seed, index_recall)
        case DqnStrategy():
            return DqnAgent(grid, strategy, seed)
        case RandomStrategy():
            return RandomAgent(grid)
        case FixedStrategy():
            return FixedAgent(grid)
        case BestConfigStrategy():
            return BestConfigAgent(grid, ordered, strategy)
        case CautiousConfigStrategy():
            return CautiousConfigAgent(grid, ordered, strategy)
        case BanditStrategy():
            return BanditAgent(grid, strategy)
        case KlAdaptiveStrategy():
            position = list(definition.space).index(strategy.hyperparameter)
            values = [float(v) for v in definition.space[strategy.hyperparameter].values]
            return KlAdaptiveAgent(grid, position, values, strategy)
