"""Where the repository's files for deployment are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
