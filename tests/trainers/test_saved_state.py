from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyperoracle_trainers.saved_state import DamagedFileError, read_state, write_state

STATE: dict[str, Any] = {
    "whole": [0, -1, 2**127 + 1],
    "numbers": [0.1, 1e-300, math.inf, -0.0],
    "texts": {"ä": "ü", "empty": ""},
    "others": [None, True, False, [], {}],
    "arrays": [np.arange(6.0).reshape(2, 3), np.zeros((0, 4), np.float32), np.array(3.5)],
}


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    write_state(tmp_path / "file", STATE)
    read = read_state(tmp_path / "file")
    assert list(read) == list(STATE)
    assert {**read, "arrays": None} == {**STATE, "arrays": None}
    assert math.copysign(1, read["numbers"][-1]) == -1
    for got, expected in zip(read["arrays"], STATE["arrays"], strict=True):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype
        assert got.flags.writeable


def test_tensors_come_back_as_arrays_in_the_memory_order_that_they_had(tmp_path: Path) -> None:
    tensor = torch.arange(6.0, requires_grad=True).reshape(2, 3).T
    write_state(tmp_path / "file", {"tensor": tensor, "tuple": (1, 2)})
    read = read_state(tmp_path / "file")
    assert read["tuple"] == [1, 2]
    np.testing.assert_array_equal(read["tensor"], tensor.detach().numpy())
    assert read["tensor"].flags.f_contiguous
    assert not read["tensor"].flags.c_contiguous


@pytest.mark.parametrize("value", [np.float32(1), {1: 2}, {"array": 0}, object(), {1, 2}])
def test_what_cannot_come_back_is_not_written(tmp_path: Path, value: Any) -> None:
    write_state(tmp_path / "file", {"former": 1})
    with pytest.raises(TypeError, match="expected"):
        write_state(tmp_path / "file", {"value": value})
    assert read_state(tmp_path / "file") == {"former": 1}


def test_a_file_that_was_cut_off_is_noticed(tmp_path: Path) -> None:
    write_state(tmp_path / "file", STATE)
    whole = (tmp_path / "file").read_bytes()
    for size in range(0, len(whole), 7):
        (tmp_path / "file").write_bytes(whole[:size])
        with pytest.raises(DamagedFileError):
            read_state(tmp_path / "file")


def test_a_byte_that_has_changed_is_noticed_or_means_nothing(tmp_path: Path) -> None:
    write_state(tmp_path / "file", STATE)
    whole = (tmp_path / "file").read_bytes()
    noticed = 0
    for position in range(0, len(whole), 11):
        changed = bytearray(whole)
        changed[position] ^= 0x55
        (tmp_path / "file").write_bytes(changed)
        try:
            read = read_state(tmp_path / "file")
        except DamagedFileError:
            noticed += 1
        else:  # a time stamp or the like
            assert str(read) == str(STATE)
    assert noticed > 50


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "file")
    with pytest.raises(DamagedFileError):
        read_state(tmp_path / "file")


# It is killed when half of the second file has been written.
KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from hyperoracle_trainers import saved_state

path = Path(sys.argv[1])
saved_state.write_state(path, {"number": 1})

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

np.lib.format.write_array = die
saved_state.write_state(path, {"number": 2, "numbers": np.zeros(9)})
"""


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_writes_leaves_the_former_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "file")]
    run = subprocess.run(command, env=dict(os.environ), check=False)
    assert run.returncode == -signal.SIGKILL
    assert (tmp_path / "file.new").exists(), "it had begun"
    assert read_state(tmp_path / "file") == {"number": 1}
    write_state(tmp_path / "file", {"number": 3})
    assert read_state(tmp_path / "file") == {"number": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
