from __future__ import annotations

from collections import OrderedDict
from types import MappingProxyType

import numpy as np
import pytest
import torch

from hyperoracle_client.errors import OracleMisconfigured
from hyperoracle_client.hyper_state.sketch import SketchCompressor
from hyperoracle_client.hyper_state.statistics import StatisticsCompressor
from hyperoracle_client.hyper_state.tensors import TensorSource
from hyperoracle_protocol.hyper_state import HyperStateLayout, sketch_layout


def torch_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        OrderedDict(
            conv=torch.nn.Conv2d(3, 4, 2),
            flat=torch.nn.Flatten(),
            out=torch.nn.Linear(16, 2),
        )
    )


def test_a_torch_module_gives_names_shapes_and_gradients_in_its_order() -> None:
    network = torch_network()
    source = TensorSource(network)
    assert [(shape.name, shape.shape) for shape in source.shapes()] == [
        ("conv.weight", (4, 3, 2, 2)),
        ("conv.bias", (4,)),
        ("out.weight", (2, 16)),
        ("out.bias", (2,)),
    ]
    assert source.gradients() == [None] * 4
    network(torch.ones(1, 3, 3, 3)).sum().backward()
    matrices = source.parameters()
    assert [matrix.shape for matrix in matrices] == [(4, 12), (1, 4), (2, 16), (1, 2)]
    for matrix, parameter in zip(matrices, network.parameters(), strict=True):
        np.testing.assert_array_equal(matrix.reshape(-1), parameter.detach().numpy().reshape(-1))
    np.testing.assert_array_equal(source.gradients()[3], [[1.0, 1.0]])


def test_updates_in_place_and_replaced_storage_are_both_seen() -> None:
    network = torch_network()
    source = TensorSource(network)
    with torch.no_grad():
        network.out.bias.fill_(3.0)
    np.testing.assert_array_equal(source.parameters()[3], [[3.0, 3.0]])
    network.out.bias.data = torch.tensor([5.0, 6.0])
    np.testing.assert_array_equal(source.parameters()[3], [[5.0, 6.0]])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_become_float32(dtype: torch.dtype) -> None:
    source = TensorSource(torch.nn.Linear(3, 2).to(dtype))
    assert [matrix.dtype for matrix in source.parameters()] == [np.float32] * 2


def test_nested_mappings_of_flax_are_flattened_and_kernels_transposed() -> None:
    kernel = np.arange(6.0).reshape(2, 3)
    conv = np.arange(48.0).reshape(2, 2, 3, 4)
    params = {
        "params": MappingProxyType({
            "Dense_0": {"kernel": kernel, "bias": np.zeros(3)},
            "Conv_0": {"kernel": conv},
        })
    }  # fmt: skip
    source = TensorSource(params)
    assert [(shape.name, shape.shape) for shape in source.shapes()] == [
        ("params/Dense_0/kernel", (3, 2)),
        ("params/Dense_0/bias", (3,)),
        ("params/Conv_0/kernel", (4, 2, 2, 3)),
    ]
    dense, bias, convolution = source.parameters()
    np.testing.assert_array_equal(dense, kernel.T)
    assert bias.shape == (1, 3)
    np.testing.assert_array_equal(convolution, np.moveaxis(conv, -1, 0).reshape(4, 12))
    untouched = TensorSource(params, kernel_transposed=False)
    np.testing.assert_array_equal(untouched.parameters()[0], kernel)


def test_functional_frameworks_pass_new_parameters_and_gradients() -> None:
    source = TensorSource({"a": {"kernel": np.zeros((2, 3))}, "b": np.zeros(2)})
    params = {"b": np.ones(2), "a": {"kernel": np.ones((2, 3))}}
    kernel, bias = source.parameters(params)
    np.testing.assert_array_equal(kernel, np.ones((3, 2)))
    np.testing.assert_array_equal(bias, np.ones((1, 2)))
    assert source.gradients() == [None, None]
    gradient = source.gradients({"a": {"kernel": 2 * np.ones((2, 3))}, "b": None})
    np.testing.assert_array_equal(gradient[0], 2 * np.ones((3, 2)))
    assert gradient[1] is None


def test_a_mapping_of_torch_tensors_brings_its_gradients() -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    (weight * 3).sum().backward()
    (gradient,) = TensorSource({"w": weight}).gradients()
    np.testing.assert_array_equal(gradient, np.full((2, 2), 3.0))


def test_no_model_is_no_tensors() -> None:
    assert TensorSource(None).shapes() == []


def test_a_missing_tensor_is_named() -> None:
    with pytest.raises(OracleMisconfigured, match="'b'"):
        TensorSource({"a": np.ones(2), "b": np.ones(2)}).parameters({"a": np.ones(2)})


def test_tensors_that_are_not_in_host_memory_give_the_same_features() -> None:
    """The path for a GPU, on torch tensors in host memory: the products are torch's."""
    rng = np.random.default_rng(0)
    network = torch_network()
    shapes = TensorSource(network).shapes()
    layouts = (
        sketch_layout(shapes, seed=1, width=8, orders=2),
        HyperStateLayout(kind="statistics", dtype="float32"),
    )
    for layout in layouts:
        host, device = (
            SketchCompressor(layout, [shape.name for shape in shapes])
            if layout.kind == "sketch"
            else StatisticsCompressor(layout, [len(shape.shape) > 1 for shape in shapes])
            for _ in range(2)
        )
        for update in range(4):
            matrices = [
                rng.normal(size=matrix.shape).astype(np.float32)
                for matrix in TensorSource(network).parameters()
            ]
            gradients = [None if update == 0 else 0.01 * matrix for matrix in matrices]
            tensors = [torch.tensor(matrix) for matrix in matrices]
            tensor_gradients = [None if g is None else torch.tensor(g) for g in gradients]
            expected = host.compress(matrices, gradients, {}, 0.5)
            found = device.compress(tensors, tensor_gradients, {}, 0.5)
            # two libraries sum in another order; float16 rounds a few of them elsewhere
            np.testing.assert_allclose(
                found.astype(float), expected.astype(float), rtol=2e-3, atol=2e-3
            )
