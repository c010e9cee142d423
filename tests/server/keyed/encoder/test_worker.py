from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading

import numpy as np
import pytest

from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.state import initial_state
from hyperoracle_server.keyed.encoder.training import train
from hyperoracle_server.keyed.encoder.worker import MessageError, packed, run_rounds, unpacked

STATE = initial_state(Architecture.of_statistics(3), 0)
SAMPLES = np.arange(12, dtype=np.float16).reshape(4, 3)


def request(samples: np.ndarray) -> bytes:
    document = {
        "architecture": STATE.architecture.to_json(),
        "seed": 0,
        "gradient_updates": 1,
        "batch_size": 2,
        "settings": {},
    }
    return packed(document, {**STATE.arrays, "samples": samples})


def test_every_request_gets_its_answer_and_a_bad_one_harms_no_other() -> None:
    parent, child = multiprocessing.Pipe()
    with parent, child:
        for samples in (SAMPLES, SAMPLES[:, :2], SAMPLES):
            parent.send_bytes(request(samples))
        thread = threading.Thread(target=run_rounds, args=(child,))
        thread.start()
        first, refused, last = (unpacked(parent.recv_bytes()) for _ in range(3))
        assert not parent.poll()
        parent.close()
        thread.join(10.0)
        assert not thread.is_alive(), "it ends with its parent"
    trained, _ = train(STATE, SAMPLES, 0, 1, 2)
    for document, arrays in (first, last):
        assert document["report"]["accepted"]
        np.testing.assert_array_equal(arrays["moments_mean"], trained.arrays["moments_mean"])
    assert "expected float16 of shape" in refused[0]["error"]
    assert refused[1] == {}


PROGRAM = """
import atexit
from hyperoracle_server.keyed.encoder import worker
atexit.register(print, "a library's chatter")
print("a library's greeting", flush=True)
worker.main()
"""


def test_what_libraries_print_does_not_land_between_the_messages() -> None:
    parent, child = multiprocessing.Pipe()
    command = [sys.executable, "-c", PROGRAM, str(child.fileno())]
    with parent:
        with subprocess.Popen(
            command, pass_fds=[child.fileno()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            child.close()
            parent.send_bytes(request(SAMPLES))
            document, _ = unpacked(parent.recv_bytes())
            assert document["report"]["accepted"]
            parent.close()
            printed, _ = process.communicate(timeout=30)
        assert process.returncode == 0
    assert b"a library's greeting" in printed
    assert b"a library's chatter" in printed


def test_messages_come_back_in_order_until_the_connection_ends() -> None:
    arrays = {"samples": np.arange(6, dtype=np.float16).reshape(2, 3), "count": np.array(7)}
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        ours.send_bytes(packed({"seed": 1}, arrays))
        ours.send_bytes(packed({"error": "é"}, {}))
        ours.close()
        document, found = unpacked(theirs.recv_bytes())
        assert document == {"seed": 1}
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)
        assert unpacked(theirs.recv_bytes()) == ({"error": "é"}, {})
        with pytest.raises(EOFError):
            theirs.recv_bytes()


def test_something_that_is_no_message_is_an_error() -> None:
    message = packed({}, {"samples": np.zeros(3)})
    cut_off = [message[:length] for length in (1, 7, 8, 9, len(message) - 1)]
    for content in (b"", b"hello, world", b"\x00" * 64, *cut_off):
        with pytest.raises(MessageError, match="expected safetensors"):
            unpacked(content)
