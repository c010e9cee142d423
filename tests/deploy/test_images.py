"""The images, without a container engine: their steps are read, and in the long form performed.

The cheap form reads the Dockerfiles against the checkout: every source is there, every package's
dependencies are installed or pinned, the entry points exist. The long form performs each image's
`COPY` and `pip` steps in clean virtual environments, in a folder that holds nothing else, and runs
what the image would run: a file or a dependency that an image lacks is missed there.

Tests say with what change of the files that they read they were seen to fail.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from support.deployment import DOCKERFILES, ROOT

from hyperoracle_server.commands import probe

PACKAGES = ("protocol", "client", "server", "trainers")


class Step(NamedTuple):
    stage: int
    word: str
    rest: str


def steps(dockerfile: Path) -> list[Step]:
    """A Dockerfile's instructions, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    found, stage = [], -1
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        found.append(Step(stage, word, rest.strip()))
    return found


def copied(dockerfile: Path) -> list[str]:
    """What is copied from the checkout."""
    pairs = [s.rest.split() for s in steps(dockerfile) if s.word == "COPY"]
    return [source for source, _target in (p for p in pairs if not p[0].startswith("--from"))]


def installed(dockerfile: Path) -> dict[str, list[str]]:
    """The folders of the workspace that pip installs, in the order given, and their extras."""
    runs = [s.rest for s in steps(dockerfile) if s.word == "RUN"]
    found = [pair for run in runs for pair in re.findall(r'[\s"]\./(\w+)(?:\[(.*?)\])?', run)]
    return {name: extras.split(",") if extras else [] for name, extras in found}


def manifest(package: str):
    return tomllib.loads((ROOT / package / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    lines = [line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
             if "==" in line]  # fmt: skip
    return {normal(name): version for name, version in lines}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def id_of(dockerfile: Path) -> str:
    return dockerfile.name.partition(".")[0]


every_image = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=id_of)


def test_there_are_three_images():
    assert [id_of(d) for d in DOCKERFILES] == ["client", "oracle", "trainer"]


@every_image
def test_what_is_copied_exists_and_is_sent_to_the_builder(dockerfile):
    """Seen to fail with a source that is not there, with `server` in `.dockerignore`, and without
    the constraints."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    for source in copied(dockerfile):
        assert (ROOT / source).exists(), source
        assert source not in ignored, source
    assert "constraints.txt" in copied(dockerfile)


@every_image
def test_what_is_installed_is_copied_and_needs_nothing_that_is_not(dockerfile):
    """Seen to fail with `COPY server` left out, with `./client` left out of the trainer's pip step,
    and with a dependency that is not pinned."""
    names = installed(dockerfile)
    assert names
    assert set(names) <= set(copied(dockerfile))
    siblings = {f"hyperoracle-{name}" for name in names}
    for name, extras in names.items():
        optional = manifest(name).get("optional-dependencies", {})
        for text in [*manifest(name)["dependencies"], *(t for e in extras for t in optional[e])]:
            needed = Requirement(text)
            if needed.name.startswith("hyperoracle-"):
                assert needed.name in siblings, f"{name} needs {needed.name}"
            else:
                assert normal(needed.name) in pins(), f"{needed.name} is not pinned"
                assert pins()[normal(needed.name)] in needed.specifier, text


@every_image
def test_it_runs_as_a_user_by_number_and_brings_no_compiler(dockerfile):
    """Seen to fail with a user by name, with none, and with a compiler in the last stage."""
    found = steps(dockerfile)
    last = max(step.stage for step in found)
    final = [step for step in found if step.stage == last]
    users = [step.rest for step in final if step.word == "USER"]
    assert users == ["10001"]  # Kubernetes' runAsNonRoot cannot tell a name's number
    assert not any("apt-get" in step.rest or "pip " in step.rest for step in final)
    assert all(step.rest.startswith("python:3.11-slim") for step in found if step.word == "FROM")


@every_image
def test_torch_is_the_one_that_the_packages_ask_for(dockerfile):
    """Seen to fail with another version of torch in a Dockerfile."""
    for wanted in re.findall(r"torch==(\S+)", dockerfile.read_text()):
        assert wanted == pins()["torch"]
        assert f"torch=={wanted}" in manifest("server")["dependencies"]


@every_image
def test_its_entry_point_and_command_are_there(dockerfile):
    """Seen to fail with another program, and with the package that has it not installed."""
    found = {step.word: step.rest for step in steps(dockerfile)}
    program, *arguments = json.loads(found["ENTRYPOINT"])
    if program == "hyperoracle":
        assert "hyperoracle" in manifest("client")["scripts"]
        assert "client" in installed(dockerfile)
    else:
        assert arguments == ["-m", "hyperoracle_server"]
        assert (ROOT / "server/src/hyperoracle_server/__main__.py").is_file()


def test_the_oracles_image_can_send_traces():
    oracle = next(d for d in DOCKERFILES if id_of(d) == "oracle")
    assert installed(oracle) == {"protocol": [], "server": ["otel"]}


def test_the_oracles_image_is_built_for_any_processor_and_asks_after_its_health():
    """Seen to fail without `HNSWLIB_NO_NATIVE`, and with a health check that is not the probe."""
    oracle = next(d for d in DOCKERFILES if id_of(d) == "oracle")
    found = {step.word: step.rest for step in steps(oracle)}
    assert "HNSWLIB_NO_NATIVE=1" in oracle.read_text()
    command = json.loads(found["HEALTHCHECK"].partition("CMD ")[2])
    assert command[1:] == ["-m", probe.__spec__.name]


# -- the health check ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "http://127.0.0.1:8080/readyz"),
        ({"HYPERORACLE_HOST": "0.0.0.0", "HYPERORACLE_PORT": "9"}, "http://127.0.0.1:9/readyz"),
        ({"HYPERORACLE_HOST": "::"}, "http://[::1]:8080/readyz"),
        ({"HYPERORACLE_TLS_CERTIFICATE": "c.pem"}, "https://127.0.0.1:8080/readyz"),
    ],
)
def test_the_health_check_asks_where_the_server_listens(environment, url):
    """Seen to fail with http for https, and with another port where none is set."""
    assert probe.ready_url(environment) == url


@pytest.mark.slow
def test_the_health_check_tells_a_ready_oracle_from_one_that_is_not_there(tmp_path):
    from support.oracle_process import OracleProcess

    with OracleProcess(tmp_path) as process:
        assert probe.why_not_ready(f"{process.url}/readyz") is None
        assert "answered 404" in probe.why_not_ready(f"{process.url}/v1/studies/nobody")
    assert "does not answer" in probe.why_not_ready(f"{process.url}/readyz")


# -- the steps, performed ------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(1800)
@every_image
def test_its_build_steps_make_an_environment_that_runs(dockerfile, tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    for step in steps(dockerfile):
        if step.word == "ENV":
            pairs = re.findall(r"(\w+)=(\S+)", step.rest)
            environment.update({k: v for k, v in pairs if k.startswith(("PIP_", "HNSWLIB_"))})
        elif step.word == "COPY" and not step.rest.startswith("--from"):
            copy(step.rest.split()[0], source)
        elif step.word == "RUN" and ("pip install" in step.rest or "-m venv" in step.rest):
            run = step.rest.replace("/opt/", f"{tmp_path}/opt/").replace("${TORCH_OPTIONS}", "")
            run = re.sub(r"^python ", f"{sys.executable} ", run)
            subprocess.run(run, shell=True, cwd=source, env=environment, check=True)
    python = next((tmp_path / "opt").glob("*/bin/python"))
    shutil.rmtree(source)  # the image has it in an earlier stage only
    check = subprocess.run([python, "-m", "pip", "check"], env=environment, check=False)
    assert check.returncode == 0
    if id_of(dockerfile) == "oracle":
        serve_and_ask(python, tmp_path, environment)
    else:
        command = python.with_name("hyperoracle")
        given = ["train", "ppo", "CartPole-v1", "--total-env-steps", "2048", "--out", "run"]
        arguments = given if id_of(dockerfile) == "trainer" else ["study", "--help"]
        subprocess.run([command, *arguments], cwd=tmp_path, env=environment, check=True)


def copy(name: str, target: Path) -> None:
    """Copy what git knows of a path: what the builder would be sent."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", name],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for file in filter(None, listed.stdout.split("\0")):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, target / file)


def serve_and_ask(python: Path, folder: Path, environment: dict[str, str]) -> None:
    """Start the oracle of an environment, and let its own health check look."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**environment, "HYPERORACLE_PORT": port, "HYPERORACLE_STORE": "oracle.db"}
    server = subprocess.Popen(
        [python, "-m", "hyperoracle_server"], cwd=folder, env=environment, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert b"listens on" in server.stdout.readline()
        asked = subprocess.run(
            [python, "-m", "hyperoracle_server.commands.probe"], env=environment, check=False
        )
        assert asked.returncode == 0
    finally:
        server.terminate()
        server.communicate()
