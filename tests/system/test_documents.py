"""What the documents tell a reader to type works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.oracle_process import OracleProcess

ROOT = Path(__file__).parents[2]


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_readmes_python_runs_as_it_stands(tmp_path):
    (code,) = blocks("README.md", "python")
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=False,
                         capture_output=True, text=True, timeout=120)  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "oracle.db").exists()


def test_the_how_tos_python_runs_as_it_stands(tmp_path):
    (code,) = blocks("docs/how-to/resume-and-evaluate.md", "python")
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False,
                         capture_output=True, text=True, timeout=120)  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "2048"


def test_the_how_to_of_stable_baselines3_runs_as_it_stands(tmp_path):
    (code,) = blocks("docs/how-to/train-with-stable-baselines3.md", "python")
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=False,
                         capture_output=True, text=True, timeout=120)  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["8"]


def test_the_tour_with_curl_runs_as_it_stands(oracle_process: OracleProcess, tmp_path):
    (script,) = blocks("docs/protocol.md", "sh")
    script = script.replace("http://127.0.0.1:8080", oracle_process.url)
    run = subprocess.run(["bash", "-eu", "-c", script], cwd=tmp_path, check=False,
                         capture_output=True, text=True, timeout=60)  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert '"credited":1' in run.stdout
    assert "the strategy `random`" in run.stdout
    assert "learning_rate" in run.stdout.splitlines()[-2]


DOCUMENTS = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_error_code_is_in_the_document():
    from hyperoracle_protocol.errors import ErrorCode

    text = (ROOT / "docs/protocol.md").read_text()
    assert [code for code in ErrorCode if f"`{code}`" not in text] == []


def test_no_document_names_a_path_of_the_machine_that_it_was_written_on():
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        assert not re.search(r"/(work|root|home)/", document.read_text()), document


def test_the_environment_for_commands_is_documented_by_the_settings():
    run = subprocess.run([sys.executable, "-m", "hyperoracle_server", "--help"], check=True,
                         capture_output=True, text=True,
                         env={**os.environ, "COLUMNS": "100"})  # fmt: skip
    from hyperoracle_server.settings import ENVIRONMENT_ONLY, ServerSettings

    for name, field in ServerSettings.model_fields.items():
        flag = f"--{name.replace('_', '-')} "
        assert (flag in run.stdout) == (name not in ENVIRONMENT_ONLY), name
        assert field.description
