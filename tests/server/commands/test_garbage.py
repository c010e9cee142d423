"""What survived a full collection is not looked at again, except now and then."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import weakref

import pytest
from support.handles import oracle_of
from support.waiting import wait_until

SCRIPT = """
import gc, weakref
from hyperoracle_server.commands import garbage

class Link:
    pass

def cycle():
    link = Link()
    link.itself = link
    return link

now = [0.0]
thresholds = gc.get_threshold()
collector = garbage.NewObjectsOnly(lambda: now[0])
assert gc.get_freeze_count() > 0

kept = [[n] for n in range(400_000)]  # many more than a full collection lets come together
assert gc.get_freeze_count() > 300_000
looked_at = [len(gc.get_objects(generation=generation)) for generation in range(3)]
assert sum(looked_at) < 60_000, looked_at

young = weakref.ref(cycle())
gc.collect()
assert young() is None  # new garbage is found by any collection

old = cycle()
gc.collect()
gone = weakref.ref(old)
del old
gc.collect()
assert gone() is not None  # set aside
now[0] = garbage.EVERYTHING_SECONDS
gc.collect()
assert gone() is None  # but not for ever
assert gc.get_freeze_count() > 300_000

collector.close()
assert gc.get_freeze_count() == 0
assert gc.get_threshold() == thresholds
"""


def test_a_full_collection_looks_at_what_is_new_and_seldom_at_everything():
    """In a process of its own: the collector is everybody's."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(SCRIPT)], capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("strategy", ["cautious_config", "epgt", "dqn", "anchored"])
def test_a_deleted_study_needs_no_collector(embedded, strategy):
    """Its reference counts end it; nothing of it would be set aside for an hour."""
    embedded.study("s", strategy={"name": strategy})
    job = embedded.job("s")
    for sequence in (1, 3):
        embedded.propose(job, sequence, seed=sequence)
        embedded.report(job, sequence + 1, sequence)
    oracle = oracle_of(embedded)
    study = weakref.ref(oracle.study_at_work(job["job_id"]))
    state = weakref.ref(study().jobs[job["job_id"]])
    gc.collect()
    gc.disable()
    try:
        assert embedded.call("DELETE", "/v1/studies/s").status == 204
        # The answer comes first; the thread that deleted lets go of its frames when it gets a core.
        wait_until("nothing holds the study", lambda: study() is None)
        wait_until("nothing holds the job", lambda: state() is None)
    finally:
        gc.enable()
