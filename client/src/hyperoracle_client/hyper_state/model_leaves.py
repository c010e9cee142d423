"""The tensors of a model by name, the same names whatever the model is wrapped in.

Understood without importing any framework:

- a torch module (anything with `named_parameters`), alone or as a leaf of what follows;
- a tree as in JAX and Flax: mappings, lists, tuples, named tuples and dataclasses, nested; names
  are joined with "/". None is an empty branch.

`torch.compile`, `DistributedDataParallel`, `DataParallel`, FSDP and the like put a module into
another one and a word into its parameters' names. These words are left out, at any depth, so that a
wrapped network has the layout of the plain one.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from hyperoracle_client.errors import OracleMisconfigured

_WRAPPED = frozenset(
    {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)
"""Words that only wrappers use: `torch.compile`, FSDP, checkpointing of activations, Fabric."""
_MODULE = "module"
"""The word of `DataParallel` and the like, which a network of the user's may use too."""


def named_leaves(model: Any) -> dict[str, Any]:
    """Every leaf by its name, in the model's order; a None in a tree is kept.

    Raises:
        OracleMisconfigured: neither a module nor a tree, or two leaves of one name.
    """
    if model is None:
        return {}
    if not _is_branch(model):
        raise OracleMisconfigured(
            "expected a torch module or a mapping of names to arrays as the model, got "
            f"{type(model).__name__}"
        )
    found: dict[str, Any] = {}
    for name, leaf in _leaves(model, ""):
        if name in found:
            raise OracleMisconfigured(f"expected one tensor called {name!r}, got two")
        found[name] = leaf
    return found


def _leaves(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not _is_branch(node):
        yield name, node
        return
    for key, child in _children(node):
        yield from _leaves(child, f"{name}/{key}" if name else key)


def _is_branch(node: Any) -> bool:
    return (
        hasattr(node, "named_parameters")
        or isinstance(node, Mapping | list | tuple)
        or (dataclasses.is_dataclass(node) and not isinstance(node, type))
    )


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(node, "named_parameters"):
        parameters = list(node.named_parameters())
        names = [_unwrapped(node, name) for name, _ in parameters]
        # Where leaving words out makes two names one, the words were no wrappers'.
        is_one_to_one = len(set(names)) == len(names)
        for name, (original, parameter) in zip(names, parameters, strict=True):
            yield name if is_one_to_one else original, parameter
    elif isinstance(node, Mapping):
        yield from zip(_unwrapped_keys([str(key) for key in node]), node.values(), strict=True)
    elif isinstance(node, list | tuple):
        names = getattr(node, "_fields", None) or [str(n) for n in range(len(node))]
        yield from zip(names, node, strict=True)
    else:
        for field in dataclasses.fields(node):
            yield field.name, getattr(node, field.name)


def _unwrapped(module: Any, name: str) -> str:
    """A parameter's name without the words of the wrappers on its way."""
    *path, last = name.split(".")
    kept, here = [], module
    for word in path:
        if word not in _WRAPPED and not (word == _MODULE and _only_wraps(here)):
            kept.append(word)
        here = _registered(here, "_modules").get(word)
    return ".".join([*kept, last])


def _only_wraps(module: Any) -> bool:
    """Whether a module holds one other and nothing else that is trained."""
    own = _registered(module, "_parameters").values()
    children = _registered(module, "_modules")
    return list(children) == [_MODULE] and all(parameter is None for parameter in own)


def _registered(module: Any, registry: str) -> Mapping[str, Any]:
    found = getattr(module, registry, None)
    return found if isinstance(found, Mapping) else {}


def _unwrapped_keys(keys: list[str]) -> list[str]:
    """The same for a mapping from a wrapped module's names: there, all begin with "module."."""
    found = keys
    while True:
        shorter = [
            ".".join([*(word for word in path if word not in _WRAPPED), last])
            for *path, last in (key.split(".") for key in found)
        ]
        if shorter and all(key.startswith(f"{_MODULE}.") for key in shorter):
            shorter = [key.removeprefix(f"{_MODULE}.") for key in shorter]
        if shorter == found:
            return found if len(set(found)) == len(keys) else keys
        found = shorter


class FlatTree:
    """Names the leaves of one tree after the other; one like the last is not walked again.

    Most programs that give their parameters with each proposal give a plain dictionary of arrays
    with the same names. Walking it would take longer than all else that is done with it.

    Args:
        check: is given every tree's leaves that are named anew, and may refuse or change them.
    """

    def __init__(self, check: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._check = check
        self._keys: list[Any] | None = None
        self._names: list[str] = []
        self._types: set[type] = set()

    def leaves_of(self, tree: Any) -> dict[str, Any]:
        """Every leaf by its name, checked.

        Raises:
            OracleMisconfigured: as `named_leaves` and the check.
        """
        if type(tree) is dict and self._is_like_the_last(tree):
            return dict(zip(self._names, tree.values(), strict=True))
        leaves = named_leaves(tree)
        checked = self._check(leaves)
        self._keys = None
        if type(tree) is dict and list(checked) == list(leaves) and _are_flat(tree, leaves):
            self._keys, self._names = list(tree), list(leaves)
            self._types = set(map(type, tree.values()))
        return checked

    def _is_like_the_last(self, tree: dict[Any, Any]) -> bool:
        return list(tree) == self._keys and set(map(type, tree.values())) <= self._types


def _are_flat(tree: dict[Any, Any], leaves: dict[str, Any]) -> bool:
    """Whether a tree's values are its leaves."""
    if len(tree) != len(leaves):
        return False
    pairs = zip(tree.values(), leaves.values(), strict=True)
    return all(value is leaf for value, leaf in pairs)


class Watch:
    """Notices cheaply when a torch module no longer holds the very parameters that it held.

    A layer that is replaced, a parameter that is assigned anew: whoever kept the old ones would go
    on to read what is trained no longer.
    """

    def __init__(self, model: Any) -> None:
        self._registries = _registries(model)
        self._sizes = list(map(len, self._registries))
        self._held = list(self._values())

    def sees_no_change(self) -> bool:
        """Whether the model is one that it can watch, and all of it is as it was."""
        return (
            bool(self._registries)
            and list(map(len, self._registries)) == self._sizes
            and all(map(operator.is_, self._values(), self._held))
        )

    def _values(self) -> Iterator[Any]:
        return chain.from_iterable(map(dict.values, self._registries))


def _registries(model: Any) -> list[dict[str, Any]]:
    """What every module in a torch module keeps its parameters and parts in; else nothing."""
    if not (hasattr(model, "named_parameters") and hasattr(model, "modules")):
        return []
    found = [
        getattr(module, name, None)
        for module in model.modules()
        for name in ("_parameters", "_modules")
    ]
    plain = [registry for registry in found if isinstance(registry, dict)]
    return plain if len(plain) == len(found) else []
