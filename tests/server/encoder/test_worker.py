from __future__ import annotations

import io
import subprocess
import sys

import numpy as np

from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.frames import frame_bytes, read_frame
from hyperoracle_server.keyed.encoder.state import initial_state
from hyperoracle_server.keyed.encoder.training import train
from hyperoracle_server.keyed.encoder.worker import run_rounds

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
    return frame_bytes(document, {**STATE.arrays, "samples": samples})


def test_every_request_gets_its_answer_and_a_bad_one_harms_no_other() -> None:
    requests = io.BytesIO(request(SAMPLES) + request(SAMPLES[:, :2]) + request(SAMPLES))
    answers = io.BytesIO()
    run_rounds(requests, answers)
    answers.seek(0)
    first, refused, last = (read_frame(answers) for _ in range(3))
    assert read_frame(answers) is None
    assert first is not None
    assert refused is not None
    assert last is not None
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
worker.main()
"""


def test_what_libraries_print_does_not_land_between_the_frames() -> None:
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(command, input=request(SAMPLES), capture_output=True, check=True)
    stream = io.BytesIO(ran.stdout)
    answer = read_frame(stream)
    assert answer is not None
    assert answer[0]["report"]["accepted"]
    assert stream.read() == b""
    assert b"a library's chatter" in ran.stderr
