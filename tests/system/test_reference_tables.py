from __future__ import annotations

import re
from pathlib import Path

import pytest

from hyperoracle_trainers.hyperparameters.schedulable import HYPERPARAMETERS
from hyperoracle_trainers.hyperparameters.settings import SETTINGS_CLASSES
from reference_tables import (
    AUTHORS_NAMES,
    defaults_table,
    hyperparameters_table,
    main,
    renewed,
    sections,
)

DOCUMENTS = sorted((Path(__file__).parents[2] / "docs/reference").glob("*.md"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_documents_are_up_to_date(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert renewed(text) == text, "out of date; run python docs/reference_tables.py docs/reference"


def test_every_section_is_in_a_document() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    assert set(re.findall(r"<!-- begin ([\w.-]+) -->", texts)) == set(sections())


def test_a_document_that_is_out_of_date_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- begin presets -->\nold\n<!-- end presets -->\nafter\n")
    main([str(tmp_path)])
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- begin presets -->\n\n| preset | experiment |")
    assert text.endswith("<!-- end presets -->\nafter\n")
    assert "old" not in text
    assert renewed(text) == text


def test_an_unknown_section_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a section among hyperparameters"):
        renewed("<!-- begin nothing --><!-- end nothing -->")


def test_every_hyperparameter_has_a_row() -> None:
    table = hyperparameters_table()
    assert all(f"| `{name}` |" in table for name in HYPERPARAMETERS)
    assert set(AUTHORS_NAMES) == set(HYPERPARAMETERS) - {"epochs"}  # theirs are fixed


def test_a_value_has_the_origin_of_its_recommendation_only_while_it_equals_it() -> None:
    table = defaults_table("ppo")
    assert "| `rollout_length` | 2048 (S) | 128 (o) | 256 (o) |  | 128 (Z) |" in table
    for name in SETTINGS_CLASSES["ppo"].schedulable():
        assert f"| `{name}` | " in table
