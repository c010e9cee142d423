from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HYPERORACLE = str(Path(sys.executable).with_name("hyperoracle"))
ENV_STEPS = 2048
PHASES = 2  # of 1024 env steps
DECISIONS = PHASES * 10  # one for each pass over the rollout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The folder of a small demo that has been given, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "given"
    folder.mkdir()
    (folder / "oracle.db").write_text("the store of an earlier demo")
    command = [HYPERORACLE, "demo", "--folder", str(folder), "--env", "InvertedPendulum-v5",
               "--total-env-steps", str(ENV_STEPS), "--seed", "7", "--compare",
               "--json"]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    assert "moved to" in done.stderr
    return folder, json.loads(done.stdout)


def test_both_jobs_train_to_the_end_and_ask_one_oracle(demo: tuple[Path, dict]) -> None:
    _, figures = demo
    assert [job["seed"] for job in figures["jobs"]] == [7, 8]
    for job in figures["jobs"]:
        assert job["status"] == "completed"
        assert job["env_steps"] == ENV_STEPS
        assert job["final_return"] > 0
        stats = job["oracle"]["stats"]
        assert stats["reports_sent"] == PHASES
        assert stats["reports_pending"] == stats["reports_dropped"] == 0
        assert job["oracle"]["overhead_percent"] > 0
        assert job["oracle"]["beside_overhead_seconds"]["oracle_cpu"] > 0


def test_the_oracle_says_what_it_did(demo: tuple[Path, dict]) -> None:
    _, figures = demo
    oracle = figures["oracle"]
    stats = [job["oracle"]["stats"] for job in figures["jobs"]]
    assert oracle["reports"] == 2 * PHASES
    # An answer that came too late was given, but not used.
    assert sum(each["proposals"] for each in stats) <= oracle["proposals"]
    # Each job asked ahead for one update more than it made.
    assert oracle["proposals"] <= 2 * (DECISIONS + 1) + sum(each["late"] for each in stats)
    assert oracle["proposals"] >= 10, "even a machine that stalls often leaves some in time"
    # The last phase's proposals have no return yet.
    assert 0 < oracle["credited_proposals"] <= 2 * (DECISIONS - 10)
    assert 0 < oracle["memory_size"] <= oracle["credited_proposals"]
    # A busy machine may leave two short jobs nothing of each other to find.
    assert 0 <= oracle["neighbours_from_other_jobs"] < 1
    assert oracle["fallbacks"] == sum(each["fallbacks"] for each in stats)


def test_the_same_seeds_are_compared_without_an_oracle(demo: tuple[Path, dict]) -> None:
    _, figures = demo
    alone = figures["without_oracle"]
    assert [job["seed"] for job in alone] == [7, 8]
    assert all(job["oracle"] is None and job["env_steps"] == ENV_STEPS for job in alone)
    for arm, runs in (("with_oracle", figures["jobs"]), ("without_oracle", alone)):
        mean = (runs[0]["final_return"] + runs[1]["final_return"]) / 2
        assert figures["comparison"][arm]["final_return"] == pytest.approx(mean)


def test_the_folder_holds_all_that_was_promised(demo: tuple[Path, dict]) -> None:
    folder, figures = demo
    names = {path.name for path in folder.iterdir()}
    assert {"demo.json", "schedule.png", "schedule.csv", "oracle.db", "job-1", "job-2",
            "alone-1", "alone-2"} <= names  # fmt: skip
    assert json.loads((folder / "demo.json").read_text()) == figures
    assert (folder / "schedule.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "schedule.png").stat().st_size > 30_000
    with (folder / "schedule.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == figures["oracle"]["proposals"]
    assert {row["job_id"] for row in rows} == {job["oracle"]["job_id"] for job in figures["jobs"]}
    for job in ("job-1", "job-2"):
        lines = [json.loads(line) for line in (folder / job / "run.jsonl").read_text().splitlines()]
        assert [line["event"] for line in lines] == ["start", *["phase"] * PHASES, "end"]


def test_the_earlier_store_was_moved_aside_and_not_used(demo: tuple[Path, dict]) -> None:
    folder, _ = demo
    (aside,) = (folder / "earlier-demos").iterdir()
    assert (aside / "oracle.db").read_text() == "the store of an earlier demo"
    assert (folder / "oracle.db").read_bytes().startswith(b"SQLite format 3")


def test_no_process_is_left_behind(demo: tuple[Path, dict]) -> None:
    folder, _ = demo
    pid = json.loads((folder / "server.json").read_text())["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
