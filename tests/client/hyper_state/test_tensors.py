from __future__ import annotations

from collections import OrderedDict
from types import MappingProxyType

import numpy as np
import pytest
import torch

from hyperoracle_client.errors import OracleMisconfigured
from hyperoracle_client.hyper_state.sketch import SketchCompressor
from hyperoracle_client.hyper_state.statistics import StatisticsCompressor
from hyperoracle_client.hyper_state.tensors import TensorSource, in_one_place
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


def test_sparse_gradients_are_read_as_dense_ones() -> None:
    """Seen to fail: every proposal fell back."""
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    embedding(torch.tensor([1, 3, 3])).sum().backward()
    assert embedding.weight.grad.is_sparse
    (gradient,) = TensorSource(embedding).gradients()
    np.testing.assert_array_equal(gradient, [[0, 0], [1, 1], [0, 0], [2, 2], [0, 0]])


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int32, torch.int64, torch.bool, torch.uint8, torch.float64]
)
def test_whole_numbers_are_read_as_numbers(dtype: torch.dtype) -> None:
    """Seen to fail: int32 stayed int32, whose squares overflow."""
    tensor = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    (matrix,) = TensorSource({"w": tensor}).parameters()
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, [[0, 1], [1, 0]])
    (of_numpy,) = TensorSource({"w": tensor.numpy()}).parameters()
    np.testing.assert_array_equal(of_numpy, matrix)


def test_complex_tensors_are_real_and_imaginary_parts() -> None:
    """Seen to fail: the imaginary part was left out, with a warning of the framework's."""
    values = np.array([[1 + 2j, 3 - 1j]], np.complex64)
    expected = [[1, 2, 3, -1]]
    parameter = torch.nn.Parameter(torch.tensor(values))
    (parameter.real * 2 + parameter.imag * 3).sum().backward()
    for leaf in (values, parameter, torch.tensor(values).conj().resolve_conj().conj()):
        source = TensorSource({"kernel": leaf, "b": np.ones(2)})
        assert source.shapes()[0].shape == (1, 2, 2)
        np.testing.assert_array_equal(source.parameters()[0], expected)
    np.testing.assert_array_equal(TensorSource({"w": parameter}).gradients()[0], [[2, 3, 2, 3]])


def test_tensors_without_elements_are_left_out() -> None:
    """Seen to fail: `start_job` raised that an extent is not at least 1, and named no tensor."""
    source = TensorSource({"none": torch.zeros(0, 4), "w": torch.ones(2)})
    assert [shape.name for shape in source.shapes()] == ["w"]
    assert len(source.parameters()) == 1
    assert source.parameters({"none": np.zeros((0, 4)), "w": np.ones(2)})[0].shape == (1, 2)
    assert source.gradients({"none": np.zeros((0, 4)), "w": np.ones(2)})[0].shape == (1, 2)
    assert TensorSource({"none": np.zeros((3, 0))}).shapes() == []


def test_frozen_parameters_and_first_updates_have_no_gradient() -> None:
    network = torch_network()
    network.conv.requires_grad_(False)
    source = TensorSource(network)
    assert source.gradients() == [None] * 4
    network(torch.ones(1, 3, 3, 3)).sum().backward()
    assert [gradient is None for gradient in source.gradients()] == [True, True, False, False]
    tree = TensorSource({"a": np.ones(2), "b": {"c": np.ones(2)}})
    assert [g is None for g in tree.gradients({"a": np.ones(2), "b": None})] == [False, True]
    assert [g is None for g in tree.gradients({"b": {"c": np.ones(2)}})] == [True, False]


def test_views_that_are_not_contiguous_are_read_right() -> None:
    tensor = torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)
    (matrix,) = TensorSource({"w": tensor}).parameters()
    np.testing.assert_array_equal(matrix, tensor.contiguous().numpy().reshape(4, 6))


def test_layers_and_parameters_that_are_replaced_are_seen() -> None:
    """Seen to fail: the replaced ones, which are trained no longer, were read for ever."""
    network = torch_network()
    source = TensorSource(network)
    source.read()
    network.out = torch.nn.Linear(16, 2)
    np.testing.assert_array_equal(source.parameters()[2], network.out.weight.detach().numpy())
    network.out.weight = torch.nn.Parameter(torch.ones(2, 16))
    np.testing.assert_array_equal(source.parameters()[2], np.ones((2, 16)))
    state = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    network.load_state_dict(state, assign=True)
    assert not any(matrix.any() for matrix in source.parameters())
    tree = {"w": np.zeros(2)}
    of_tree = TensorSource(tree)
    tree["w"] = np.ones(2)
    np.testing.assert_array_equal(of_tree.parameters()[0], [[1, 1]])


def grow_a_layer(network: torch.nn.Module) -> None:
    network.out = torch.nn.Linear(16, 3)


def grow_in_place(network: torch.nn.Module) -> None:
    network.out.weight.data = torch.ones(3, 16)


def add_a_layer(network: torch.nn.Module) -> None:
    network.more = torch.nn.Linear(1, 1)


def remove_a_layer(network: torch.nn.Module) -> None:
    del network.out


def forget_the_numbers(network: torch.nn.Module) -> None:
    network.to("meta")


def keep_an_old_gradient(network: torch.nn.Module) -> None:
    network(torch.ones(1, 3, 3, 3)).sum().backward()
    network.out.weight.data = torch.ones(3, 16)
    network.out.weight.data = torch.ones(2, 16)
    network.out.weight.grad.data = torch.ones(3, 16)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (grow_a_layer, r"'out\.weight' in its shape at the start, \(2, 16\), got \(3, 16\)"),
        (grow_in_place, r"'out\.weight' in its shape at the start"),
        (add_a_layer, r"'more\.weight' is new"),
        (remove_a_layer, r"'out\.weight' is missing"),
        (forget_the_numbers, r"'conv\.weight' cannot be read .*meta"),
        (keep_an_old_gradient, r"gradient of the tensor 'out\.weight'"),
    ],
)
def test_a_tensor_that_is_not_what_it_was_is_named_with_what_to_do(change, told) -> None:
    """Seen to fail: old numbers were read in silence, or an error of the framework's said nothing
    of the tensor."""
    network = torch_network()
    source = TensorSource(network)
    source.read()
    change(network)
    with pytest.raises(OracleMisconfigured, match=told) as caught:
        source.read()
    assert "\n" not in str(caught.value)
    assert "start" in str(caught.value), "what to do"


def test_gradients_of_other_tensors_are_named() -> None:
    with pytest.raises(OracleMisconfigured, match="got one of 'b'"):
        TensorSource({"a": np.ones(2)}).gradients({"b": np.ones(2)})
    with pytest.raises(OracleMisconfigured, match="gradient of the tensor 'a' in its shape"):
        TensorSource({"a": np.ones(2)}).gradients({"a": np.ones(3)})


def test_an_array_that_holds_no_numbers_is_named() -> None:
    with pytest.raises(OracleMisconfigured, match="'a' cannot be read"):
        TensorSource({"a": np.array(["x"])}).parameters()


def test_tensors_in_several_places_are_brought_together() -> None:
    """A tensor that is not NumPy's stands for one on a GPU. Seen to fail: NumPy times torch."""
    here, there = np.ones((2, 2), np.float32), torch.ones(2, 2)
    parameters, gradients = in_one_place([here, there], [None, here])
    assert all(isinstance(matrix, np.ndarray) for matrix in (*parameters, gradients[1]))
    parameters, gradients = in_one_place([there, there], [None, there])
    assert parameters[0] is there, "in one place: it stays"
