"""What objects say of themselves so that a later process can go on, and the file that it lies in.

An object that takes part in a checkpoint has ``state()`` and ``restore(state)``. A state is made
of dictionaries with string keys, lists, strings, numbers, None, arrays and tensors, so that it can
be written without pickle: reading a file runs no code.

The file is a zip archive, not compressed: ``state.json``, in which ``{"array": i}`` stands for the
array in ``i.npy``. Whole numbers of any size, floating-point numbers and the memory order of
arrays come back as they were, bit by bit. The archive's checksums tell a damaged file.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

State = dict[str, Any]
"""A state of an object; see the module's description."""

_TREE = "state.json"


class Stateful(Protocol):
    """Takes part in checkpoints."""

    def state(self) -> State:
        """Return what its continuation depends on; it may share memory with the object."""
        ...

    def restore(self, state: State) -> None:
        """Go on where ``state`` was taken; arrays in it are NumPy's, writable, nobody else's."""
        ...


class DamagedFileError(ValueError):
    """A file holds no whole state; the message says what is wrong with it."""


def write_state(path: Path, state: State) -> None:
    """Write a state so that at any moment ``path`` is the former file or the new one, complete.

    Args:
        path: its folder must exist.
        state: what to write.

    Raises:
        TypeError: the state holds something else than the module's description allows.
        OSError: the disk is full, or the folder cannot be written.
    """
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            arrays: list[npt.NDArray[Any]] = []
            archive.writestr(_TREE, json.dumps(_without_arrays(state, arrays)))
            for index, array in enumerate(arrays):
                with archive.open(f"{index}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def read_state(path: Path) -> State:
    """Read what :func:`write_state` wrote; tensors come back as arrays, tuples as lists.

    Raises:
        DamagedFileError: it is not such a file, or not a whole one.
        OSError: it cannot be read.
    """
    content = io.BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(content) as archive:
            tree = json.loads(archive.read(_TREE))
            state = _with_arrays(tree, archive)
    except Exception as error:  # zipfile raises a dozen kinds for a damaged archive
        raise DamagedFileError(" ".join(str(error).split()) or type(error).__name__) from error
    if not isinstance(state, dict):
        raise DamagedFileError("its state is no dictionary")
    return state


def with_tensors(value: Any, device: torch.device) -> Any:
    """Return a state, or a part of one, with its arrays as tensors on a device."""
    if isinstance(value, dict):
        return {key: with_tensors(each, device) for key, each in value.items()}
    if isinstance(value, list):
        return [with_tensors(each, device) for each in value]
    return torch.from_numpy(value).to(device) if isinstance(value, np.ndarray) else value


def _without_arrays(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    """Return ``value`` as JSON can write it; its arrays are appended to ``arrays``."""
    if isinstance(value, dict):
        return {_key(key): _without_arrays(each, arrays) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(each, arrays) for each in value]
    if isinstance(value, Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"expected plain values, arrays and tensors in a state, got {value!r}")


def _key(key: Any) -> str:
    if not isinstance(key, str) or key == "array":
        raise TypeError(f"expected strings other than 'array' as keys of a state, got {key!r}")
    return key


def _with_arrays(value: Any, archive: zipfile.ZipFile) -> Any:
    if isinstance(value, list):
        return [_with_arrays(each, archive) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array"}:
        # Read whole, so that the checksum is compared before anything is made of it.
        content = io.BytesIO(archive.read(f"{value['array']}.npy"))
        return np.lib.format.read_array(content, allow_pickle=False)
    return {key: _with_arrays(each, archive) for key, each in value.items()}


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` outlast a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
