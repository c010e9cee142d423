from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperoracle_client import Choice, Oracle, cli
from hyperoracle_client.api import OracleApi
from hyperoracle_client.commands.study import guards_in_words
from hyperoracle_client.errors import OracleRefused
from hyperoracle_client.job.delivery.spool import OutgoingReport, Spool
from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.gain import GuardReport
from hyperoracle_protocol.jobs import Role

SPACE = {"clip_range": Choice([0.1, 0.2, 0.3], default=0.2)}
UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The url of an embedded oracle in which one job has run."""
    directory = tmp_path_factory.mktemp("cli")
    url = f"embedded:{directory / 'oracle.db'}"
    with Oracle(url, spool_directory=directory / "spool", on_error="raise") as oracle:
        job = oracle.start_job(
            study="s", space=SPACE, strategy="random", total_env_steps=100, metadata={"seed": "3"}
        )
        for update in range(5):
            job.propose(env_step=update)
            job.report([float(update)], env_step=update + 1)
        job.finish()
    return url


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    return json.loads(out)


@pytest.mark.slow
def test_help_names_every_command_without_importing_torch() -> None:
    code = (
        "import sys; from hyperoracle_client.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted(set(sys.modules) & {'torch', 'httpx', 'fastapi'}))"
    )
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for name in ("study", "job", "memory", "explain", "export", "doctor"):
        assert f"\n    {name} " in printed
    help_of_study = "Create, list, show, diagnose, back up, restore or delete studies."
    assert help_of_study in " ".join(printed.split())
    assert printed.splitlines()[-1] == "[]"


def test_wrong_usage_exits_with_2() -> None:
    for arguments in (["nonsense"], [], ["study"], ["study", "show"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2


@pytest.mark.parametrize(("given", "meant"), [("stuyd", "study"), ("expotr", "export")])
def test_a_mistyped_command_is_told_the_nearest(
    given: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([given, "list"])
    assert caught.value.code == 2
    told = f"hyperoracle: there is no command {given!r}; did you mean {meant}?\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["job", "lst"], "hyperoracle job: there is no action 'lst'; did you mean list?\n"),
        (
            ["--json", "job", "burn", "--limit", "3"],
            "hyperoracle job: expected list or show or proposals, got 'burn'\n",
        ),
    ],
)
def test_so_is_a_mistyped_action(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen to fail: argparse printed its usage, and every action."""
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err == told


def test_the_asked_command_is_found_behind_options() -> None:
    assert cli.asked_command(["--url", "job", "--json", "study", "list"]) == "study"
    assert cli.asked_command(["--help"]) is None


def test_an_unreachable_oracle_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run(capsys, "--url", UNREACHABLE, "study", "list")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"no oracle answers at {UNREACHABLE}" in err


def test_a_distribution_that_does_not_import_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EntryPoint("broken", "no_such_module.at_all:register", cli.COMMANDS_GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [broken])
    code, _, err = run(capsys, "broken")
    assert (code, err.count("\n")) == (1, 1)
    assert "'broken' cannot be run" in err
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "not available" in capsys.readouterr().out


def test_studies_are_created_listed_shown_and_deleted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = f"embedded:{tmp_path / 'oracle.db'}"
    as_toml, as_json = tmp_path / "definition.toml", tmp_path / "definition.json"
    as_toml.write_text('strategy = {name = "random"}\nseed = 4\n[space.clip]\ntype = "values"\n'
                       "values = [0.1, 0.2]\ndefault = 0.2\n")  # fmt: skip
    space = {"clip": {"type": "values", "values": [0.1, 0.2], "default": 0.2}}
    as_json.write_text(json.dumps({"strategy": {"name": "random"}, "seed": 4, "space": space}))
    assert run(capsys, "--url", url, "study", "create", "one", str(as_toml))[0] == 0
    confirmed = run_json(capsys, "--url", url, "study", "create", "one", str(as_json))
    assert confirmed["seed"] == 4
    shown = run(capsys, "--url", url, "study", "show", "one")[1]
    assert "clip            values      0.2  0.1 0.2" in shown
    assert [s["name"] for s in run_json(capsys, "study", "list", "--url", url)["studies"]] == [
        "one"
    ]
    code, _, err = run(capsys, "--url", url, "study", "delete", "two", "--yes")
    assert (code, "study_not_found" in err) == (1, True)
    assert run(capsys, "--url", url, "study", "delete", "one", "--yes")[0] == 0
    assert run_json(capsys, "--url", url, "study", "list")["studies"] == []


def test_a_job_shows_what_was_amiss(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"embedded:{tmp_path / 'oracle.db'}"
    with Oracle(url, spool_directory=tmp_path / "spool", on_error="raise") as oracle:
        job = oracle.start_job(
            study="s", space={"learning_rate": Choice([1e-4, 2e-4], default=1e-4)},
            strategy="kl_adaptive", total_env_steps=1000, returns="custom",
        )  # fmt: skip
        proposal = job.propose(env_step=0)
        job.applied({"learning_rate": 3e-4})
        for _ in range(4):
            job.report([1.0], env_step=100)  # of the phase, and of another kind
            job.propose(env_step=100)
        job.finish()
        key = job.id
    shown = run(capsys, "--url", url, "job", "show", str(key))[1]
    lines = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in shown.splitlines()}
    assert lines["applied_differently_proposals"] == "1"
    assert lines["proposals_without_signal"] == "5"
    assert lines["reports_without_return"] == "4"
    for notice in ("applied_differently=1", "env_step_not_rising=3", "report_note=4",
                   "signal_missing=3", "no_return=1"):  # fmt: skip
        assert notice in shown
    explained = run(capsys, "--url", url, "explain", str(proposal.proposal_id))[1]
    assert "used_instead" in explained
    assert "learning_rate=0.0003" in explained


def test_a_study_shows_whether_it_helps_or_that_nothing_is_known_yet(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = f"embedded:{tmp_path / 'oracle.db'}"

    def run_jobs(role: Role, level: float, count: int) -> None:
        with Oracle(url, spool_directory=tmp_path / "spool", on_error="raise") as oracle:
            for number in range(count):
                job = oracle.start_job(study="s", space=SPACE, strategy="random",
                                       total_env_steps=100, role=role)  # fmt: skip
                job.report([level + number], env_step=100)
                job.finish()

    run_jobs("control", 10.0, 1)
    assert run(capsys, "--url", url, "study", "show", "s")[1].count("no evidence yet") == 4
    run_jobs("control", 11.0, 7)
    run_jobs("exploit", 20.0, 8)
    shown = run(capsys, "--url", url, "study", "show", "s")[1]
    assert "whole jobs       exploit=8 control=8\n" in shown
    assert "memory hit rate  -\n" in shown
    assert "  final return             exploiting jobs do better: 8 exploiting against" in shown
    assert "Verdicts and intervals hold however often you look." in shown
    found = run_json(capsys, "--url", url, "study", "show", "s")
    assert found["name"] == "s"
    gain = found["gain"]["gain_over_default"]["final_return"]
    assert gain["difference"]["value"] == 10.0


def test_an_oracle_that_knows_no_gain_is_told_from_one_without_the_study(
    capsys: pytest.CaptureFixture[str], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_api: OracleApi, _study: str) -> None:
        raise OracleRefused("no such call", status=404, code=ErrorCode.NOT_FOUND)

    assert "study_not_found" in run(capsys, "--url", store, "study", "show", "no-such-study")[2]
    monkeypatch.setattr(OracleApi, "gain", unknown)
    code, out, _ = run(capsys, "--url", store, "study", "show", "s")
    assert (code, "upgrade the server" in out) == (0, True)
    assert run_json(capsys, "--url", store, "study", "show", "s")["gain"] is None


@pytest.mark.parametrize("text", ["{", "{}", '{"space": {"x": {"type": "float"}}}'])
def test_a_file_that_is_no_definition_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    path = tmp_path / "definition.json"
    path.write_text(text)
    code, _, err = run(capsys, "--url", UNREACHABLE, "study", "create", "x", str(path))
    assert (code, err.count("\n")) == (1, 1)
    assert str(path) in err


def test_jobs_are_listed_and_shown(capsys: pytest.CaptureFixture[str], store: str) -> None:
    job = run_json(capsys, "--url", store, "job", "list", "s")["jobs"][-1]
    assert (job["status"], job["proposals"], job["reports"]) == ("finished", 5, 5)
    table = run(capsys, "--url", store, "job", "list", "s")[1]
    assert table.splitlines()[0].split()[:3] == ["job", "status", "role"]
    assert job["job_id"] in table
    assert "seed=3" in run(capsys, "--url", store, "job", "show", job["job_id"])[1]


def test_a_jobs_proposals_are_listed_by_what_explain_takes(
    capsys: pytest.CaptureFixture[str], store: str
) -> None:
    job = run_json(capsys, "--url", store, "job", "list", "s")["jobs"][-1]["job_id"]
    listed = run_json(capsys, "--url", store, "job", "proposals", job)
    assert (listed["of"], len(listed["proposals"])) == (5, 5)
    sequences = [each["sequence"] for each in listed["proposals"]]
    assert sequences == sorted(sequences, reverse=True)
    for each in listed["proposals"]:
        explained = run_json(capsys, "--url", store, "explain", each["proposal_id"])
        assert explained["chosen"]["hyperparameters"] == each["hyperparameters"]
    table = run(capsys, "--url", store, "job", "proposals", job, "--limit", "2")[1]
    assert table.splitlines()[-1] == "2 of 5; --limit 0 lists all"
    newest = listed["proposals"][0]
    columns = re.split("  +", table.splitlines()[1])
    assert columns[:4] == [newest["proposal_id"], "4", "4", "explored"]
    assert newest["held"] is False
    code, _, err = run(capsys, "--url", store, "job", "proposals", "job-of-nobody")
    assert (code, err.count("\n")) == (1, 1)


def test_a_study_without_a_memory_has_an_empty_page(
    capsys: pytest.CaptureFixture[str], store: str
) -> None:
    assert run_json(capsys, "--url", store, "memory", "s", "--limit", "3")["entries"] == []
    assert run(capsys, "--url", store, "memory", "s")[0] == 0


def test_a_study_without_records_is_diagnosed_in_one_line(
    capsys: pytest.CaptureFixture[str], store: str
) -> None:
    code, out, _ = run(capsys, "--url", store, "study", "diagnose", "s")
    assert (code, out) == (0, "s: the strategy random keeps no records that jobs could share\n")
    assert run_json(capsys, "--url", store, "study", "diagnose", "s")["keys"] == []
    code, _, err = run(capsys, "--url", store, "study", "diagnose", "s", "--neighbours", "0")
    assert (code, err.count("\n")) == (1, 1)


def test_a_study_with_a_memory_is_diagnosed_as_soon_as_a_second_job_left_something(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = f"embedded:{tmp_path / 'oracle.db'}"
    asked = ("--url", url, "study", "diagnose", "s", "--neighbours", "2")
    rng = np.random.default_rng(0)
    for returns in ([1.0, 2.0, 3.0], [2.0, 2.0, 5.0]):
        with Oracle(url, spool_directory=tmp_path / "spool", on_error="raise") as oracle:
            model = {"w": rng.normal(size=(4, 3)).astype(np.float32)}
            job = oracle.start_job(
                study="s", space=SPACE, model=model, total_env_steps=100, strategy="epgt"
            )
            for update, value in enumerate(returns):
                job.propose(env_step=update, params=model)
                job.report([value], env_step=update + 1)
                model["w"] += 0.1
            job.finish()
        out = run(capsys, *asked)[1]
        assert ("nothing to compare yet" in out) == (returns == [1.0, 2.0, 3.0])
    (keys,) = run_json(capsys, *asked)["keys"]
    assert (keys["records"], keys["jobs"]) == (6, 2)
    assert (
        f"of 2 nearest neighbours from other jobs: {keys['neighbours']['from_other_jobs']:.3f}"
        in out
    )
    assert f"skill: {keys['prediction']['skill']['value']:.3f} (95 % interval" in out


def test_a_schedule_is_exported_as_csv_and_json(
    capsys: pytest.CaptureFixture[str], store: str, tmp_path: Path
) -> None:
    lines = run(capsys, "--url", store, "export", "s")[1].splitlines()
    assert len(lines) >= 6  # a line of names, and one for each proposal
    assert "clip_range" in lines[0].split(",")
    path = tmp_path / "schedule.json"
    assert run(capsys, "--url", store, "export", "s", "--output", str(path))[0] == 0
    rows = json.loads(path.read_text())["rows"]
    assert [row["env_step"] for row in rows[:5]] == [0, 1, 2, 3, 4]
    code, _, err = run(capsys, "--url", store, "export", "s", "--output", "/no/such/place.csv")
    assert (code, err.count("\n")) == (1, 1)


def test_a_proposal_is_explained(capsys: pytest.CaptureFixture[str], store: str) -> None:
    with Oracle(store) as oracle:
        job = oracle.start_job(study="s", space=SPACE, strategy="random", total_env_steps=100)
        proposal = job.propose(env_step=0)
    found = run_json(capsys, "--url", store, "explain", proposal.proposal_id)
    assert found["proposal_id"] == proposal.proposal_id
    assert found["job_id"] == job.id
    text = run(capsys, "--url", store, "explain", proposal.proposal_id)[1]
    assert text.startswith(found["why"])


class TestDoctor:
    def test_a_healthy_client_is_told_so(
        self, capsys: pytest.CaptureFixture[str], store: str
    ) -> None:
        findings = run_json(capsys, "--url", store, "doctor")
        assert [finding["check"] for finding in findings] == [
            "installed", "settings", "spool", "reachable", "protocol", "ready", "authorised",
        ]  # fmt: skip
        assert all(finding["ok"] for finding in findings)

    def test_an_unreachable_oracle_and_waiting_reports_come_with_remedies(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        spool = Spool(tmp_path / "state" / "hyperoracle" / "spool", "s", "key-of-it")
        spool.append("j", [OutgoingReport([1.0], 1)])
        code, out, _ = run(capsys, "--url", UNREACHABLE, "doctor")
        assert code == 1
        assert "1 of s (job_key key-of-it)" in out
        assert "hyperoracle serve" in out
        assert sum(line.startswith("FAIL") for line in out.splitlines()) == 2

    def test_a_wrong_setting_is_found(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HYPERORACLE_URL", "nowhere")
        code, out, _ = run(capsys, "doctor")
        assert code == 1
        assert "FAIL  settings" in out


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((0, 0, 0), "had nothing to do"),
        ((2, 0, 0), "2 jobs went back to the default because their return fell"),
        ((0, 1, 7), "stay on the default until 7 more jobs have ended"),
    ],
)
def test_guards_are_told_in_words(counts: tuple[int, int, int], words: str) -> None:
    back, behind, until = counts
    report = GuardReport(jobs_back_at_default=back, times_behind=behind, jobs_until_freed=until)
    assert words in guards_in_words(report)
