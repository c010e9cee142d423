"""From a study's definition to its hyper-agent: the one place that knows them all."""

from __future__ import annotations

from hyperoracle_protocol.space import bins_per_hyperparameter, default_bins
from hyperoracle_protocol.studies import EpgtStrategy, FixedStrategy, StudyDefinition
from hyperoracle_server.hyper_actions import HyperActionGrid
from hyperoracle_server.hyper_agents.base import HyperAgent
from hyperoracle_server.hyper_agents.episodic import EpisodicAgent
from hyperoracle_server.hyper_agents.simple import FixedAgent, RandomAgent


def grid_of(definition: StudyDefinition) -> HyperActionGrid:
    """The joint grid of a study's search space."""
    space = definition.space
    return HyperActionGrid(bins_per_hyperparameter(space), default_bins(space))


def make_hyper_agent(definition: StudyDefinition, seed: int) -> HyperAgent:
    """The hyper-agent that a study's definition asks for, without memories."""
    grid = grid_of(definition)
    strategy = definition.strategy
    if isinstance(strategy, EpgtStrategy):
        return EpisodicAgent(grid, strategy, seed)
    return FixedAgent(grid) if isinstance(strategy, FixedStrategy) else RandomAgent(grid)
