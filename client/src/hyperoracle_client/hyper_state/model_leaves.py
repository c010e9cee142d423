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
from collections.abc import Iterator, Mapping
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


class Watch:
    """Notices cheaply when a torch module no longer holds the very parameters that it held.

    A layer that is replaced, a parameter that is assigned anew: whoever kept the old ones would go
    on to read what is trained no longer.
    """

    def __init__(self, model: Any) -> None:
        self._registries = [(registry, len(registry)) for registry in _registries(model)]
        self._held = [
            (registry, key, value)
            for registry, _ in self._registries
            for key, value in registry.items()
        ]

    def sees_no_change(self) -> bool:
        """Whether the model is one that it can watch, and all of it is as it was."""
        return (
            bool(self._registries)
            and all(registry.get(key) is value for registry, key, value in self._held)
            and all(len(registry) == size for registry, size in self._registries)
        )


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
