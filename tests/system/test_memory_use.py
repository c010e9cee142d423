"""What the server needs of the machine's memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.waiting import wait_until
from support.wire_client import Wire

BUDGET_BYTES = 700 * 2**20
ENTRIES = 10_000

# A 64x64 actor-critic of 11 observations and 3 actions: 6,384 features, the default layout.
TENSORS = [
    {"name": f"{trunk}.{layer}.{kind}", "shape": [rows, columns] if kind == "weight" else [rows]}
    for trunk, outputs in (("actor", 3), ("critic", 1))
    for layer, (rows, columns) in enumerate([(64, 11), (64, 64), (outputs, 64)])
    for kind in ("weight", "bias")
]


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its children."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text()
            except OSError:
                continue  # it has ended meanwhile
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            if int(entry.name) == pid or int(fields["PPid"]) == pid:
                total += int(fields.get("VmRSS", "0 kB").split()[0]) * 1024
    return total


@pytest.mark.timeout(900)  # ten thousand calls, on a machine that does other things too
def test_a_server_with_ten_thousand_default_entries_stays_under_700_megabytes(oracle_process):
    wire = Wire(url=oracle_process.url)
    wire.study("large", strategy={"name": "epgt", "encoder": {"publish_seconds": 5}})
    job = wire.job("large", tensors=TENSORS, total=10**6)
    assert job["layout"]["feature_count"] == 6384
    sequence = covered = 0
    while covered < ENTRIES * 1.01:
        for _ in range(100):
            sequence += 1
            assert wire.propose(job, sequence, seed=sequence).status == 200
        sequence += 1
        wire.report(job, sequence, sequence - 1, [float(sequence)])
        covered += 100

    def study():
        return wire.call("GET", "/v1/studies/large").json

    assert study()["memory_size"] == ENTRIES
    wait_until("an encoder was trained", lambda: any(study()["encoder_versions"].values()), 90)
    assert resident_bytes(oracle_process.pid) < BUDGET_BYTES
    print(f"resident: {resident_bytes(oracle_process.pid) / 2**20:.0f} MB")
    wire.close()
