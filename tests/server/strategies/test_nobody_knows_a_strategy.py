"""The server outside `strategies` and `keyed` knows no strategy: neither its name nor its classes.

Read from the source, so that a shortcut is found where it is written.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import hyperoracle_server
from hyperoracle_protocol import strategies as settings
from hyperoracle_protocol.strategies import STRATEGIES, StrategyDefinition
from hyperoracle_server.strategies.base import HyperAgent
from hyperoracle_server.strategies.registry import REGISTRY, agent_class

ROOT = Path(hyperoracle_server.__file__).parent
ROOMS_OF_STRATEGIES = ("strategies", "keyed")
ALSO_NOBODYS = ("strategies/cost.py", "strategies/base.py", "strategies/decisions.py")
"""What serves all strategies alike, though it lies beside them."""
WORDS = {"fixed", "random"}
"""Names that are words of other things as well, such as an encoder's kind."""


def core() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*.py")):
        inside = path.relative_to(ROOT)
        if inside.parts[0] not in ROOMS_OF_STRATEGIES or inside.as_posix() in ALSO_NOBODYS:
            yield path


def classes_of_strategies() -> set[str]:
    """Names of all hyper-agents and of all settings of strategies, bases between included."""
    found = {
        name for name, each in vars(settings).items()
        if inspect.isclass(each) and issubclass(each, StrategyDefinition)
    }  # fmt: skip
    for row in REGISTRY:
        found |= {
            each.__name__ for each in agent_class(row).__mro__ if issubclass(each, HyperAgent)
        }
    return found - {"HyperAgent", "StrategyDefinition"}


def shortcuts(source: str) -> list[str]:
    """Where a piece of the core knows a strategy, or asks what kind a hyper-agent is of."""
    found = []
    classes = classes_of_strategies()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            who, kinds = map(ast.unparse, node.args)
            is_asked = any(word in who.lower() for word in ("agent", "strategy"))
            if is_asked or "Agent" in kinds or "Strategy" in kinds:
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in classes:
                found.append(name)
        elif isinstance(node, ast.Constant) and node.value in set(STRATEGIES) - WORDS:
            found.append(repr(node.value))
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module.startswith("hyperoracle_server.keyed"):
                found.append(node.module)
            found += [each.name for each in node.names if each.name in classes]
        elif isinstance(node, ast.Import):
            found += [each.name for each in node.names if "keyed" in each.name]
    return found


@pytest.mark.parametrize("path", list(core()), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_piece_of_the_core_knows_a_strategy(path):
    assert shortcuts(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(study.agent, dict)",
        "isinstance(x, KeyedAgent)",
        "isinstance(definition.strategy, tuple)",
        "if row.strategy == 'dqn': pass",
        "def f(agent: BanditAgent): pass",
        "from hyperoracle_server.keyed.agent import anything",
        "from hyperoracle_server.strategies.value_model.anchored import AnchoredAgent",
        "import hyperoracle_server.keyed.rounds",
    ],
)
def test_a_shortcut_is_found(line):
    assert shortcuts(line)


def test_every_room_of_the_server_was_read():
    rooms = {path.relative_to(ROOT).parts[0] for path in core()}
    assert {"api", "oracle", "views", "snapshots", "ledger"} < rooms
    for module in ("oracle.study", "views.diagnosis", "snapshots.documents"):
        importlib.import_module(f"hyperoracle_server.{module}")
