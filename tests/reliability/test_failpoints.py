"""R2: the process dies at every point between write, commit, acknowledgement, swap and publish.

Each life of an oracle (`support.mortal`) does the same calls in the same order, those that earlier
lives already made included, as jobs do that never heard an answer. After each death the store must
hold every acknowledged report once and at most the one that was under way, as a whole or not at
all; and after the last life the memory must be, to the bit, that of a life that nothing ended.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing

import pytest
from server.oracle.test_restart import to_first_schema
from support import failpoints
from support.mortal import Mortals, told
from support.oracle_process import OracleProcess
from support.wire_client import Wire

from hyperoracle_server.errors import StoreRefused
from hyperoracle_server.ledger.store import Ledger
from hyperoracle_server.snapshots.stores import verify
from hyperoracle_server.telemetry.failpoints import FAILPOINTS, failpoint

AT_WORK = {"before_write": 24, "amid_write": 200, "before_commit": 24, "before_acknowledgement": 24}
AT_WORK |= dict.fromkeys(
    ("before_encoder_publish", "after_encoder_publish", "before_index_swap", "after_index_swap",
     "before_snapshot_seal", "before_snapshot_name", "before_restore_commit",
     "after_restore_commit"),
    1,
)  # fmt: skip
"""The failpoints that work passes, and among how many of their passages one is chosen."""

FROM_THE_START = ("before_write", "amid_write", "before_commit", "before_acknowledgement",
                  "before_index_swap")  # fmt: skip
"""Those whose lives begin with a new store; the others begin where a life before them ended, which
saves the work until then."""

AT_STORES = {"before_store_name": "open", "before_migration_commit": "open",
             "before_snapshot_seal": "back up", "before_snapshot_name": "back up",
             "before_store_moves": "restore", "between_stores": "restore",
             "after_store_moves": "restore"}  # fmt: skip
"""Those that making, migrating, backing up and restoring a store pass."""


@pytest.fixture(scope="module")
def mortals():
    with Mortals() as found:
        yield found


@pytest.fixture(scope="module")
def blank(mortals, tmp_path_factory):
    """A folder with a new store: making one takes longer than all the rest."""
    folder = tmp_path_factory.mktemp("blank")
    assert not mortals.live("open", folder)
    return folder


@pytest.fixture(scope="module")
def begun(mortals, blank, tmp_path_factory):
    """By failpoint, the folder in which lives that are to end there begin."""
    reported = tmp_path_factory.mktemp("reported")
    published = tmp_path_factory.mktemp("published")
    shutil.copy(blank / "oracle.db", reported)
    assert mortals.live("work", reported, "before_index_swap")
    shutil.copytree(reported, published, dirs_exist_ok=True)
    assert mortals.live("work", published, "before_snapshot_seal")
    folders = dict.fromkeys(AT_WORK, published)
    folders |= dict.fromkeys(FROM_THE_START, blank)
    folders |= dict.fromkeys(
        ("after_index_swap", "before_encoder_publish", "after_encoder_publish"), reported
    )
    return folders


@pytest.fixture(scope="module")
def undisturbed(mortals, blank, tmp_path_factory):
    """A folder after a whole course of work."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(blank / "oracle.db", folder)
    assert not mortals.live("work", folder)
    return folder


def acknowledged(folder) -> dict[str, dict]:
    """Receipts by job and sequence; each life must have been told the same."""
    receipts: dict[str, dict] = {}
    for of, answer in told(folder):
        if "." in of:
            assert receipts.setdefault(of, answer) == answer, of
    return receipts


def check_after_death(folder) -> None:
    """What is on disk: all that was acknowledged, once, and nothing by halves."""
    assert verify(folder / "oracle.db") == (None, [])
    receipts = acknowledged(folder)
    with closing(sqlite3.connect(folder / "oracle.db")) as store:
        jobs = "SELECT j.id FROM jobs j JOIN studies s ON s.id = j.study_id WHERE s.name = 's'"
        stored = store.execute(
            f"SELECT j.job_key, r.sequence, json_extract(r.response, '$.credited') FROM reports r "
            f"JOIN jobs j ON j.id = r.job_id WHERE j.id IN ({jobs})"
        ).fetchall()
        credited = store.execute(
            f"SELECT count(*) FROM proposals WHERE status = 'credited' AND job_id IN ({jobs})"
        ).fetchone()[0]
    found = {f"{key.rpartition('-')[2]}.{sequence}": by for key, sequence, by in stored}
    assert len(found) == len(stored)
    for of, receipt in receipts.items():
        assert found[of] == receipt["credited"], of
    assert len(found) - len(receipts) in (0, 1)
    assert credited == sum(found.values()) == len(found)


def die(mortals, begun, undisturbed, tmp_path, point: str, deaths: int) -> None:
    chance = random.Random(point)
    expected = told(undisturbed)[-1]
    died, folder = 0, None
    while died < deaths:
        is_fresh = folder is None
        if folder is None:
            folder = tmp_path / str(died)
            shutil.copytree(begun[point], folder)
        passage = chance.randint(1, AT_WORK[point])
        if mortals.live("work", folder, f"{point}:{passage}"):
            died += 1
            check_after_death(folder)
        else:
            assert not is_fresh, f"it does not come to {point}"
            assert told(folder)[-1] == expected
            folder = None
    if folder is not None:
        assert not mortals.live("work", folder)
        assert told(folder)[-1] == expected
        check_after_death(folder)
        assert acknowledged(folder) == acknowledged(undisturbed)


@pytest.mark.parametrize("point", AT_WORK)
def test_a_death_at_any_point_of_work_loses_nothing_doubles_nothing_and_halves_nothing(
    mortals, begun, undisturbed, tmp_path, point
):
    """Seen to fail at `before_write` with `Writer._put` resolving futures at once."""
    die(mortals, begun, undisturbed, tmp_path, point, deaths=3)


@pytest.mark.long
@pytest.mark.parametrize("point", AT_WORK)
def test_ten_deaths_at_any_point_of_work_lose_nothing(mortals, begun, undisturbed, tmp_path, point):
    die(mortals, begun, undisturbed, tmp_path, point, deaths=10)


def test_a_death_while_a_store_is_made_leaves_none_and_while_it_migrates_the_former(
    mortals, undisturbed, tmp_path
):
    for _ in range(3):
        assert mortals.live("open", tmp_path, "before_store_name")
        assert not (tmp_path / "oracle.db").exists()
    assert not mortals.live("open", tmp_path)
    assert told(tmp_path) == [("studies", {})]

    folder = tmp_path / "migrating"
    folder.mkdir()
    shutil.copy(undisturbed / "oracle.db", folder)
    to_first_schema(folder / "oracle.db")
    for _ in range(3):
        assert mortals.live("open", folder, "before_migration_commit")
        with closing(sqlite3.connect(folder / "oracle.db")) as store:
            assert store.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    assert not mortals.live("open", folder)
    assert told(folder) == [("studies", {"copy": 28, "s": 28})]


def test_a_death_while_a_store_is_backed_up_leaves_no_backup_that_is_not_whole(
    mortals, undisturbed, tmp_path
):
    shutil.copy(undisturbed / "oracle.db", tmp_path)
    for point in ("before_snapshot_seal", "before_snapshot_name"):
        for _ in range(3):
            assert mortals.live("back up", tmp_path, point)
            assert not (tmp_path / "backup").exists()
    assert not mortals.live("back up", tmp_path)
    manifest, findings = verify(tmp_path / "backup")
    assert manifest is not None
    assert findings == []
    assert not list(tmp_path.glob("*.partial"))


def test_a_death_while_a_store_is_restored_never_lets_an_oracle_begin_anew(
    mortals, blank, undisturbed, tmp_path
):
    """A start would find no store and make an empty one, or find one without its journal. Would
    fail (an oracle without studies) with the look for the restored file taken out of
    `store._check_files`."""
    backed_up = tmp_path / "of"
    backed_up.mkdir()
    shutil.copy(undisturbed / "oracle.db", backed_up)
    assert not mortals.live("back up", backed_up)
    for point in ("before_store_moves", "between_stores", "after_store_moves"):
        folder = tmp_path / point
        folder.mkdir()
        shutil.copy(blank / "oracle.db", folder)
        shutil.copy(backed_up / "backup", folder)
        for _ in range(3):
            assert mortals.live("restore", folder, point)
            if point == "after_store_moves":
                continue
            with pytest.raises(StoreRefused, match=r"interrupted.*hyperoracle db restore"):
                Ledger(folder / "oracle.db")
        if point != "after_store_moves":
            assert not mortals.live("restore", folder)
        assert not mortals.live("open", folder)
        assert told(folder)[-1] == ("studies", {"copy": 28, "s": 28})


def test_every_failpoint_is_tried():
    assert {*AT_WORK, *AT_STORES} == set(FAILPOINTS)


def ask(wire: Wire, job, phases: int) -> None:
    for number in range(phases):
        wire.propose(job, 2 * number + 1)
        assert wire.report(job, 2 * number + 2, 2 * number + 1).json["credited"] == 1


def test_a_server_says_loudly_that_it_will_end_itself_and_ends_before_it_answers(
    tmp_path,
):
    """The whole way, over a socket: the report is on disk, its job has heard nothing and asks
    again."""
    with OracleProcess(tmp_path) as process:
        wire = Wire(url=process.url)
        wire.study("s")
        job = wire.job("s")
        wire.close()
        process.kill()
        process.start(failpoint="before_acknowledgement:2")
        assert "THIS PROCESS WILL END ITSELF" in process.log()
        wire = Wire(url=process.url)
        with pytest.raises(ConnectionError):
            ask(wire, job, 20)  # when proposals are written is not known
        wire.close()
        assert process.wait() == failpoints.EXIT_CODE
        process.start()
        assert process.log().count("THIS PROCESS WILL END ITSELF") == 1
        wire = Wire(url=process.url)
        before = wire.call("GET", "/v1/studies/s").json["reports"]
        assert before > 0
        ask(wire, job, before)
        study = wire.call("GET", "/v1/studies/s").json
        assert (study["reports"], study["credited_proposals"]) == (before, before)
        wire.close()


def test_a_failpoint_that_does_not_exist_is_refused_in_one_line():
    for setting in ("before_lunch", "before_write:0", "before_write:x"):
        with pytest.raises(ValueError, match="expected one of before_write, ") as refused:
            failpoints.arm(setting)
        assert "\n" not in str(refused.value)
    failpoints.arm(None)
    for name in FAILPOINTS:
        failpoint(name)


def test_no_variable_of_the_environment_ends_a_server(tmp_path, monkeypatch):
    """What earlier releases read. Only a test's own hook ends a process."""
    monkeypatch.setenv("HYPERORACLE_FAILPOINT", "before_commit")
    with OracleProcess(tmp_path) as process:
        wire = Wire(url=process.url)
        assert wire.study("s").status == 201
        wire.close()
