from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# In a process of its own: what is asked of the C library holds until the process ends.
_SCRIPT = """
import resource, torch
from gymnasium.spaces import Discrete
from hyperoracle_trainers.policies.process import keep_freed_memory
from hyperoracle_trainers.policies.networks import ActorCritic
{ask}
torch.set_num_threads(1)
policy = ActorCritic((84, 84, 4), Discrete(4), (), 0, shared_trunk=True)
images = torch.zeros(256, 84, 84, 4, dtype=torch.uint8)
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    outputs, values = policy.outputs_and_values(images)
    torch.autograd.grad(outputs.sum() + values.sum(), list(policy.parameters()))
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


# By itself glibc raises its threshold with the first large block that is freed, on some machines
# far enough; with this it gives all of them back at once, as it does with larger ones. What the
# process itself asks for comes after it.
_GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
_MANY = 1000  # a minibatch's outputs have some ten thousand pages


def _page_faults_of_a_later_minibatch(ask: str) -> int:
    answer = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(ask=ask)],
        check=True, capture_output=True, text=True, env={**os.environ, **_GIVING_BACK},
    )  # fmt: skip
    return int(answer.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked")
def test_memory_that_a_minibatch_freed_is_used_by_the_next() -> None:
    by_default = _page_faults_of_a_later_minibatch("pass")
    if by_default < _MANY:
        pytest.skip("another allocator, or huge pages: it makes few page faults by itself")
    assert _page_faults_of_a_later_minibatch("assert keep_freed_memory()") < 0.2 * by_default
