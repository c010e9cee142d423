from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hyperoracle_client.commands.options import add_options
from hyperoracle_trainers.bench import imports, trainers
from hyperoracle_trainers.bench.figures import Figure
from hyperoracle_trainers.commands import bench

QUICK = ["trainers", "--env", "CartPole-v1", "--env-steps", "32", "--repeats", "1", "--set",
         "number_of_envs=2", "--set", "rollout_length=16"]  # fmt: skip


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_options(parser, is_top=True)
    bench.register(parser.add_subparsers())
    args = parser.parse_args(["bench", *arguments])
    exit_code: int = args.run(args)
    return exit_code


@pytest.fixture(autouse=True)
def _no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("contenders", "peer"):
        name = f"hyperoracle_trainers.bench.peers.{module}.peer_is_installed"
        monkeypatch.setattr(name, lambda: False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_figures_come_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*QUICK, "--algorithms", "a2c,acktr", "--json") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    (found,) = document["benchmarks"]
    assert found["name"] == "trainers"
    assert [figure["what"] for figure in found["figures"]] == [
        "A2C on CartPole-v1, of bare environment", "A2C on CartPole-v1, env steps",
        "ACKTR on CartPole-v1, of bare environment", "ACKTR on CartPole-v1, env steps",
    ]  # fmt: skip
    assert all(figure["value"] > 0 for figure in found["figures"])
    assert document["packages"].keys() >= {"torch", "hyperoracle-trainers"}
    assert captured.err.splitlines()[0].endswith("pip install stable-baselines3")


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What a measurement is said to have found; measuring itself starts processes."""
    figures: list[Figure] = [Figure("a ratio", 2.0, "x", {"in wall time": 3.0}, stands=True)]
    for module in (imports, trainers):
        monkeypatch.setattr(module, "run", lambda _args, _say: figures)
    return figures


def test_figures_come_as_tables(canned: list[Figure], capsys: pytest.CaptureFixture[str]) -> None:
    canned.append(Figure("a time", 1234.56, "ms"))
    assert run(*QUICK) == 0
    printed = capsys.readouterr().out
    for part in ("bench trainers", "a ratio", "2.00 x", "in wall time 3.00 x", "1,235 ms"):
        assert part in printed


@pytest.mark.parametrize(
    ("at_least", "value", "exit_code"),
    [(True, 2.5, 0), (True, 2.4, 1), (False, 2.5, 0), (False, 2.6, 1)],
)
def test_a_budget_that_is_missed_is_told_by_table_and_exit_code(
    at_least: bool,
    value: float,
    exit_code: int,
    canned: list[Figure],
    capsys: pytest.CaptureFixture[str],
) -> None:
    canned.append(Figure("judged", value, "x", budget=2.5, goal=2.0, at_least=at_least))
    assert run(*QUICK) == exit_code
    sign = ">=" if at_least else "<="
    printed = capsys.readouterr().out
    assert f"{sign} 2.5 (goal 2)" in printed
    assert ("missed" in printed, "kept" in printed) == (exit_code == 1, exit_code == 0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--algorithms", "ppo,dqn"], "expected ppo or a2c or acktr, got 'dqn'"),
        (["--env", "CartPole-v99"], "expected a registered Gymnasium environment"),
        (["--set", "gama=1"], "did you mean gamma"),
        (["--algorithms", "a2c", "--set", "epochs=1"], "which is one of ppo"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("trainers", *arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("hyperoracle bench trainers: ")
    assert expected in error


@pytest.mark.parametrize("option", ["--repeats", "--env-steps"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_nothing_cannot_be_measured(option: str, value: str) -> None:
    with pytest.raises(SystemExit) as error:
        run("trainers", option, value)
    assert error.value.code == 2


@pytest.mark.usefixtures("canned")
def test_all_of_them_are_one_document_that_can_be_read_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("all", "--only", "imports,trainers", "--json") == 0
    file = tmp_path / "all.json"
    file.write_text(capsys.readouterr().out)
    document = json.loads(file.read_text())
    assert [each["name"] for each in document["benchmarks"]] == ["imports", "trainers"]
    assert run("report", str(file), "--out", str(tmp_path / "page.md")) == 0
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| a ratio | 2.00 x | in wall time 3.00 x |" in page
    assert "    hyperoracle bench imports" in page
    assert run("check", str(file), "--against", str(file)) == 0
    assert "2 ratios are as good as before" in capsys.readouterr().out


@pytest.mark.usefixtures("canned")
def test_a_name_that_is_none_is_told_with_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("all", "--only", "imports,trainer") == 2
    assert "expected names among imports" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [None, "no json", "{}", '{"benchmarks": [{"name": "x"}]}', "[]"]
)
def test_what_is_no_document_is_refused_in_one_line(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no.json"
    if content is not None:
        file.write_text(content)
    for arguments in (["report", str(file)], ["check", str(file), "--against", str(file)]):
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "no.json" in error


def documents(tmp_path: Path, *figures: dict[str, Any]) -> list[str]:
    paths = []
    for number, fields in enumerate(figures):
        figure = Figure("a ratio", **{"value": 1.0, "unit": "x", "stands": True, **fields})
        benchmark = {"name": "b", "description": "d", "command": "c", "figures": [figure.as_json()]}
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({"machine": "m", "packages": {}, "benchmarks": [benchmark]}))
        paths.append(os.fspath(path))
    return paths


@pytest.mark.parametrize(
    ("now", "then", "is_worse"),
    [
        ({"value": 3.1}, {"value": 2.0}, True),
        ({"value": 2.9}, {"value": 2.0}, False),
        ({"value": 1.0}, {"value": 2.0}, False),
        ({"value": 1.3, "at_least": True}, {"value": 2.0, "at_least": True}, True),
        ({"value": 1.4, "at_least": True}, {"value": 2.0, "at_least": True}, False),
        ({"value": 9.0, "at_least": True}, {"value": 2.0, "at_least": True}, False),
    ],
)
def test_a_ratio_that_is_worse_by_half_is_named(
    now: dict[str, Any],
    then: dict[str, Any],
    is_worse: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, against = documents(tmp_path, now, then)
    assert run("check", file, "--against", against) == int(is_worse)
    assert ("times worse" in capsys.readouterr().out) is is_worse


def test_times_of_another_machine_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, against = documents(tmp_path, {"stands": False}, {"stands": False})
    assert run("check", file, "--against", against) == 2
    assert "got none" in capsys.readouterr().err
