"""Programs import from three modules, and what these let them import is written down."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from reference_tables import PUBLIC_MODULES

ROOT = Path(__file__).parents[2]
DOCUMENTS = [path for pattern in ("*.md", "docs/**/*.md", "*/README.md")
             for path in sorted(ROOT.glob(pattern))
             if "decisions" not in path.parts and not path.parts[-2].startswith(".")]  # fmt: skip


def imports(text: str) -> list[tuple[str, str]]:
    """What the Python of a document imports of ours: module and name."""
    found = []
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hyperoracle_"):
                found += [(str(node.module), alias.name) for alias in node.names]
            if isinstance(node, ast.Import):
                found += [(a.name, "") for a in node.names if a.name.startswith("hyperoracle_")]
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_import_public_names_only(path: Path) -> None:
    for module, name in imports(path.read_text(encoding="utf-8")):
        assert module in PUBLIC_MODULES, f"{path.name}: {module}"
        assert not name or name in import_module(module).__all__, f"{path.name}: {module}.{name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_of_the_client_what_is_public_only(path: Path) -> None:
    """Seen to fail: a README named a class by the module that it lay in."""
    for dotted in re.findall(r"\bhyperoracle_client(?:\.\w+)*", path.read_text(encoding="utf-8")):
        module, _, name = dotted.rpartition(".")
        is_public_name = module in PUBLIC_MODULES and name in import_module(module).__all__
        assert dotted in PUBLIC_MODULES or is_public_name, f"{path.name}: {dotted}"


def test_documents_import_something() -> None:
    found = [each for path in DOCUMENTS for each in imports(path.read_text(encoding="utf-8"))]
    assert {module for module, _ in found} == set(PUBLIC_MODULES)


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_every_public_name_is_there_and_written_down_and_no_other(module: str) -> None:
    found = import_module(module)
    for name in found.__all__:
        assert getattr(found, name) is not None
    page = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    section = page.split(f"<!-- begin names-{module} -->")[1].split("<!-- end")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)) == set(found.__all__)


def test_the_trainers_package_loads_what_is_used_only() -> None:
    code = ("import sys, hyperoracle_trainers; "
            "print(*({'torch', 'gymnasium', 'numpy'} & set(sys.modules)))")  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []


def test_architecture_names_modules_that_are_there() -> None:
    """Seen to fail with the walks of before the rooms."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r" (client|server)   (\w\S+\.py)", page)
    missing = [
        f"{part}: {module}"
        for part, module in rows
        if not (ROOT / part / "src" / f"hyperoracle_{part}" / module).is_file()
    ]
    assert {part for part, _ in rows} == {"client", "server"}
    assert not missing
