"""The three images and `docker-compose.yml`, built and run for real by podman.

    python .ci/images.py [--place FOLDER]        what `make images-test` calls

Builds the images, starts the compose file's oracle and both example jobs, waits until the jobs have
ended, and looks from outside: the oracle is healthy, both jobs ended well without a decision on
the defaults, each report that they sent is in the store, and all of it is there after the oracle's
container was killed and started again. Engine, storage and network of the machine's own containers
are left alone: everything lies in a temporary folder, or in one that is kept for the next time.

Where the base image can be pulled from nowhere, a stand-in is made of Debian's packages (which need
a mirror, as pip does). pip's settings and certificates of this machine hold in the builds too.
What is missing is said in one line, and nothing fails for it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = "hyperoracle-images-test"
BASE = "docker.io/library/python:3.11-slim"
URL = "http://127.0.0.1:8080"
IMAGES = {"client": "client", "oracle": "oracle", "job-1": "trainer"}
"""Service (or name) and Dockerfile."""

STORAGE = '[storage]\ndriver = "overlay"\nrunroot = "{0}/run"\ngraphroot = "{0}/graph"\n'
CONTAINERS = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
"""


class Missing(Exception):
    """What this machine lacks for the test."""


class Engine:
    """podman with a storage of its own.

    Args:
        place: a folder of its own; what an earlier run left there is used.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        (place / "storage.conf").write_text(STORAGE.format(place / "storage"))
        (place / "containers.conf").write_text(CONTAINERS)
        self.environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(place / "storage.conf"),
            "CONTAINERS_CONF": str(place / "containers.conf"),
        }

    def __call__(self, *arguments: str, fails: bool = True) -> str:
        """Run `podman`; returns what it printed."""
        return self.run("podman", *arguments, fails=fails)

    def run(self, *command: str, fails: bool = True) -> str:
        """Run a command with this storage; what it says is shown if it fails."""
        done = subprocess.run(  # noqa: S603 - our own commands
            command, cwd=ROOT, env=self.environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if fails and done.returncode:
            print(done.stdout[-4000:])
            raise SystemExit(f"images-test failed: {' '.join(command[:4])} ... ended with "
                             f"{done.returncode}")  # fmt: skip
        return done.stdout if done.returncode == 0 else ""


def check_tools() -> None:
    """See that what is needed is there.

    Raises:
        Missing: something is not.
    """
    needed = ("podman", "podman-compose", "runc", "iptables")
    lacking = [tool for tool in needed if shutil.which(tool) is None]
    if lacking:
        raise Missing(f"needs {', '.join(lacking)}")
    if os.geteuid() != 0:
        raise Missing("needs to be root, for networks and mounts of its own")


def provide_base(engine: Engine) -> str:
    """The image that all three build on; returns where it came from."""
    if engine("image", "inspect", BASE, fails=False):
        return "there already"
    if engine("pull", "--quiet", BASE, fails=False):
        return "pulled"
    if shutil.which("debootstrap") is None:
        raise Missing(f"cannot pull {BASE}, and a stand-in needs debootstrap")
    root = engine.place / "base"
    packages = "python3,python3-venv,python3-pip,python3-dev,ca-certificates"
    engine.run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root))
    (root / "usr/bin/python").symlink_to("python3")
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    for settings in ("sources.list", "sources.list.d", "apt.conf.d"):
        source, target = Path("/etc/apt") / settings, root / "etc/apt" / settings
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy(source, target)
    archive = engine.place / "base.tar"  # from a pipe the image would stay empty
    engine.run("tar", "-C", str(root), "-cf", str(archive), ".")
    engine("import", str(archive), BASE)
    archive.unlink()
    shutil.rmtree(root)
    return "a stand-in of Debian's packages"


def build_options() -> list[str]:
    """This machine's pip settings and certificates, for a build that uses its network."""
    options = ["--network", "host"]
    names = [n for n in os.environ if n.startswith("PIP_") or n.lower().endswith("_proxy")]
    names += [n for n in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if n in os.environ]
    options += [f"--env={name}={os.environ[name]}" for name in names]
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    words = [word.strip("'\"") for word in listed.replace("=", " ").split()]
    words += [os.environ[name] for name in names]
    paths = {Path(word) for word in words if word.startswith("/")}
    # An index of files refers to what lies beside it.
    paths |= {Path(word[7:]).parent for word in words if word.startswith("file:///")}
    paths |= {Path("/etc/pip.conf"), Path("/etc/xdg/pip"), Path("/etc/ssl/certs")}
    settings = [Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"]
    mounts = {str(path): str(path) for path in paths if path.exists()}
    mounts |= {str(path): "/root/.config/pip/pip.conf" for path in settings if path.exists()}
    return options + [f"--volume={here}:{there}:ro" for here, there in mounts.items()]


def compose(engine: Engine, *arguments: str, fails: bool = True) -> str:
    """Run podman-compose on the compose file."""
    return engine.run("podman-compose", "-p", PROJECT, "--profile", "example", *arguments,
                      fails=fails)  # fmt: skip


def ask(path: str) -> Any:
    """What the oracle answers to a GET, as soon as it listens."""
    for left in range(60, -1, -1):
        try:
            with urllib.request.urlopen(URL + path, timeout=10) as answer:  # noqa: S310 - ours
                return json.load(answer)
        except OSError:
            if not left:
                raise
            time.sleep(0.5)
    raise AssertionError("unreachable")


def look(jobs: list[dict[str, Any]]) -> None:
    """See that the example's jobs did what the README promises.

    Raises:
        SystemExit: they did not.
    """
    for job in jobs:
        wrong = {
            "status": job["status"] != "finished",
            "proposals": not job["proposals"],
            "reports": not job["reports"],
        }
        if any(wrong.values()):
            said = {field: job[field] for field in wrong}
            raise SystemExit(f"images-test failed: a job ended like this: {said}")
    if len(jobs) != 2:
        raise SystemExit(f"images-test failed: expected 2 jobs, got {len(jobs)}")


def run_example(engine: Engine) -> None:
    """The compose file's oracle and its two jobs, from start to a restart after a kill."""
    compose(engine, "up", "-d", "--no-build")
    print("up: oracle and two jobs; waiting for the jobs", flush=True)
    oracle = f"{PROJECT}_oracle_1"
    for job in ("job-1", "job-2"):
        code = engine("wait", f"{PROJECT}_{job}_1").strip().splitlines()[-1]
        last = engine("logs", "--tail", "12", f"{PROJECT}_{job}_1", fails=False)
        print(f"{job} ended with {code}")
        if code != "0":
            print(last)
            raise SystemExit(f"images-test failed: {job} ended with {code}")
    engine("healthcheck", "run", oracle)
    before = ask("/v1/studies/hopper-ppo/jobs")["jobs"]
    look(before)
    engine("kill", oracle)
    engine("start", oracle)
    after = ask("/v1/studies/hopper-ppo/jobs")["jobs"]
    keep = ("job_id", "status", "proposals", "reports", "last_return")
    if [[job.get(k) for k in keep] for job in before] != [
        [job.get(k) for k in keep] for job in after
    ]:
        raise SystemExit("images-test failed: after a kill the oracle does not remember the same")
    print(
        f"healthy; {sum(job['proposals'] for job in after)} proposals and "
        f"{sum(job['reports'] for job in after)} reports of 2 jobs, the same after a kill"
    )


def main() -> int:
    """Build and run; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--place", type=Path, help="keep images in this folder, for the next time")
    args = parser.parse_args()
    # Not below /tmp, which may be a file system in memory.
    place = args.place or Path(tempfile.mkdtemp(prefix="images-test-", dir="/var/tmp"))
    engine = Engine(place.absolute())
    try:
        check_tools()
        began = time.monotonic()
        print(f"base image: {provide_base(engine)} ({time.monotonic() - began:.0f} s)", flush=True)
        options = build_options()
        for service, dockerfile in IMAGES.items():
            began = time.monotonic()
            tag = f"{PROJECT}_{service}"
            # Docker's format: in the other one an image has no health check.
            engine(
                "build",
                "--format",
                "docker",
                *options,
                "-f",
                f"docker/{dockerfile}.Dockerfile",
                "-t",
                tag,
                ".",
            )
            size = int(engine("image", "inspect", "--format", "{{.Size}}", tag)) / 1e6
            print(f"{dockerfile}: built in {time.monotonic() - began:.0f} s, {size:.0f} MB",
                  flush=True)  # fmt: skip
        engine("tag", f"{PROJECT}_job-1", f"{PROJECT}_job-2")
        said = engine(
            "run", "--rm", "--read-only", "--network=none", f"{PROJECT}_client", "--version"
        )
        print(f"client: {said.strip()}")
        run_example(engine)
    except Missing as missing:
        print(f"images-test skipped: {missing}")
        return 0
    finally:
        if shutil.which("podman-compose"):
            compose(engine, "down", "-v", "-t", "15", fails=False)
        if args.place is None:
            if shutil.which("podman"):
                engine("system", "reset", "--force", fails=False)
            shutil.rmtree(place, ignore_errors=True)
    print("images-test: green")
    return 0


if __name__ == "__main__":
    sys.exit(main())
