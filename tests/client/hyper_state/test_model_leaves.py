"""A model's tensors have the same names whatever it is wrapped in, and whatever tree it is."""

from __future__ import annotations

import itertools
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hyperoracle_client.errors import OracleMisconfigured
from hyperoracle_client.hyper_state.model_leaves import named_leaves
from hyperoracle_client.hyper_state.tensors import TensorSource

PLAIN = ["body.0.weight", "body.0.bias", "body.2.weight", "body.2.bias", "head.weight", "head.bias"]


class Wrapper(nn.Module):
    """As the frameworks' own: one module, under a word."""

    def __init__(self, word: str, inner: nn.Module) -> None:
        super().__init__()
        self.add_module(word, inner)


def network() -> nn.Module:
    body = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4))
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(4, 2)))


def compiled(inner: nn.Module) -> Any:
    return torch.compile(inner, backend="eager")


def fsdp(inner: nn.Module) -> nn.Module:
    return Wrapper("_fsdp_wrapped_module", inner)


@pytest.fixture(scope="module")
def process_group() -> Iterator[None]:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "compile": compiled,
    "data parallel": nn.DataParallel,
    "fsdp": fsdp,
}


@pytest.mark.parametrize("order", list(itertools.permutations(WRAPPERS)), ids=" of ".join)
def test_a_wrapped_network_has_the_plain_ones_tensors_in_any_order(order: tuple[str, ...]) -> None:
    """Seen to fail: the wrappers' words were in the names."""
    model = network()
    expected = TensorSource(network()).shapes()
    for name in order:
        model = WRAPPERS[name](model)
        assert TensorSource(model).shapes() == expected


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_too() -> None:
    model = nn.parallel.DistributedDataParallel(network())
    assert list(named_leaves(model)) == PLAIN
    assert list(named_leaves(compiled(model))) == PLAIN


def test_wrappers_deep_in_a_network_too() -> None:
    model = network()
    model.body[0] = nn.DataParallel(compiled(model.body[0]))
    model.body = fsdp(nn.DataParallel(model.body))
    model.head = compiled(model.head)
    assert list(named_leaves(compiled(model))) == PLAIN


def test_a_mapping_from_a_wrapped_networks_names_too() -> None:
    model = compiled(nn.DataParallel(network()))
    assert list(named_leaves(dict(model.named_parameters()))) == PLAIN
    assert list(named_leaves({"actor": dict(model.named_parameters())})) == [
        f"actor/{name}" for name in PLAIN
    ]
    assert list(named_leaves({"actor": model})) == [f"actor/{name}" for name in PLAIN]


def test_a_networks_own_part_of_that_name_keeps_it() -> None:
    model = nn.Module()
    model.module, model.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
    assert list(named_leaves(model)) == ["module.weight", "head.weight"]
    assert list(named_leaves({"module.a": 1, "b": 2})) == ["module.a", "b"]


def test_names_that_would_become_one_stay_as_they_are() -> None:
    model = nn.Module()
    model._orig_mod, model.weight = nn.Linear(2, 2, bias=False), nn.Parameter(torch.ones(2))
    assert list(named_leaves(model)) == ["weight", "_orig_mod.weight"]
    assert list(named_leaves({"_orig_mod.a": 1, "a": 2})) == ["_orig_mod.a", "a"]


def test_shared_parameters_count_once_wrapped_or_not() -> None:
    model = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 4, bias=False))
    model[1].weight = model[0].weight
    assert list(named_leaves(model)) == ["0.weight"]
    assert list(named_leaves(nn.DataParallel(model))) == ["0.weight"]


Layer = namedtuple("Layer", "kernel bias")


@dataclass
class Critic:
    layers: list[Layer]
    scale: Any = None


def test_trees_of_every_kind_are_flattened() -> None:
    """Seen to fail: lists, tuples and dataclasses were no trees."""
    kernel, bias = np.ones((2, 3)), np.ones(3)
    tree = MappingProxyType(
        {
            "actor": (Layer(kernel, bias), [bias, None]),
            "critic": Critic([Layer(kernel, bias)], np.float32(2.0)),
            "none": {},
        }
    )
    shapes = {shape.name: shape.shape for shape in TensorSource(tree).shapes()}
    assert shapes == {
        "actor/0/kernel": (3, 2),
        "actor/0/bias": (3,),
        "actor/1/0": (3,),
        "critic/layers/0/kernel": (3, 2),
        "critic/layers/0/bias": (3,),
        "critic/scale": (),
    }
    assert [s.name for s in TensorSource([bias, bias]).shapes()] == ["0", "1"]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"a": {"b": np.ones(2)}, "a/b": np.ones(2)}, "'a/b'"),
        ({1: np.ones(2), "1": np.ones(2)}, "'1'"),
        ({"a": [np.ones(2), 0.5]}, "float at 'a/1'"),
        (5, "got int"),
        (np.ones(3), "got ndarray"),
        (nn.LazyLinear(2), "'weight' has none yet"),
        ({"net": nn.Sequential(nn.LazyLinear(2))}, "'net/0.weight' has none yet"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(model: Any, told: str) -> None:
    with pytest.raises(OracleMisconfigured, match=told) as caught:
        TensorSource(model)
    assert "\n" not in str(caught.value)


def test_a_lazy_layer_that_has_run_is_a_layer() -> None:
    model = nn.Sequential(nn.LazyLinear(2))
    model(torch.ones(1, 3))
    assert [s.shape for s in TensorSource(model).shapes()] == [(2, 3), (2,)]


def test_names_and_shapes_that_the_wire_does_not_take_are_made_to_fit() -> None:
    long = "x" * 300
    shapes = TensorSource({f"{long}1": np.ones([1] * 9 + [2]), f"{long}2": np.ones(2)}).shapes()
    assert [s.shape for s in shapes] == [(1, 2), (2,)]
    assert len({s.name for s in shapes}) == 2
