"""Known vulnerabilities among the pinned dependencies, where somebody can be asked.

    python .ci/audit.py

Fails when one is found. Where the service cannot be reached, or knows none of the packages (a
mirror that answers nothing), it says so in one line and succeeds: a check that runs anywhere must
not lean on the network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS = 90.0
COMMAND = [sys.executable, "-m", "pip_audit", "--requirement", "constraints.txt", "--no-deps",
           "--disable-pip", "--progress-spinner", "off", "--timeout", "5",
           "--format", "json"]  # fmt: skip


def main() -> int:
    """Audit; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        try:
            ended = subprocess.run(  # noqa: S603 - fixed arguments
                [*COMMAND, "--output", str(report)],
                capture_output=True, text=True, timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"dependency audit skipped: no answer in {SECONDS:.0f} s")
            return 0
        if not report.exists():
            reason = (ended.stderr.strip().splitlines() or ["no reason given"])[-1]
            print(f"dependency audit skipped: {reason[:120]}")
            return 0
        packages = json.loads(report.read_text())["dependencies"]
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        print(f"dependency audit skipped: the service knows none of {len(packages)} packages")
        return 0
    found = [(package, flaw) for package in asked for flaw in package["vulns"]]
    for package, flaw in found:
        fixed = ", ".join(flaw["fix_versions"]) or "no release yet"
        print(f"{package['name']} {package['version']}: {flaw['id']}, fixed in {fixed}")
    unknown = len(packages) - len(asked)
    print(f"dependency audit: {len(found)} known vulnerabilities in {len(asked)} packages"
          + (f", {unknown} unknown to the service" if unknown else ""))  # fmt: skip
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
