"""Writes what an experiment's results say, as Markdown and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperoracle_trainers.experiments.claims import (
    Claim,
    claims_of,
    claims_over_references,
)
from hyperoracle_trainers.experiments.comparison import (
    Comparison,
    Contest,
    compare,
    contests_of,
    scores_by_task,
)
from hyperoracle_trainers.experiments.definition import DEFAULT, Experiment, scopes_of
from hyperoracle_trainers.experiments.packed import Record, ResultsError
from hyperoracle_trainers.experiments.pictures import draw_areas, draw_pictures
from hyperoracle_trainers.experiments.plan import chains_of
from hyperoracle_trainers.experiments.results import provenance, read_results
from hyperoracle_trainers.experiments.scores import Area, TaskScores, areas_of
from hyperoracle_trainers.experiments.statistics import Estimate

_PURPOSES = {
    "tuning": "**Tuning seeds:** choose by these numbers, but do not quote them.",
    "reporting": "Reporting seeds: nothing was chosen by them.",
}
_EXPLAINED = (
    "A run's area is the mean of its learning curve over env steps; score = (area − random "
    "policy's) / (default's area − random policy's). n counts independent memories, each the mean "
    "of its runs. IQM: interquartile mean of scores, with the 95 % percentile interval of a "
    "bootstrap over memories, within tasks, which is too narrow where n is small. Gain: mean "
    "difference to the default with the same seeds, and its one-sided 95 % lower bound; intervals "
    "leave room for one more memory that loses or gains all of the default's score. P(better): "
    "probability that a memory's score exceeds a default's, ties half. All so far: the gain of all "
    "runs of a memory up to there, also of those that explored: the price of learning."
)


_AREAS_EXPLAINED = (
    "A run's area is the mean of its learning curve over env steps. n counts seeds; intervals are "
    "95 % percentile intervals of a bootstrap over them."
)


@dataclass(frozen=True)
class ExperimentReport:
    """What was written.

    Attributes:
        page: the Markdown file.
        claims: what is shown and what is not.
        figures: the same as a benchmark prints: name, machine, commit, rows.
    """

    page: Path
    claims: Sequence[Claim]
    figures: dict[str, Any]


def write_report(experiment: Experiment, folder: Path) -> ExperimentReport:
    """Write ``README.md`` and the pictures beside the results.

    Raises:
        ResultsError: there are not enough results, or they are of another definition.
    """
    cells = [cell for chain in chains_of(experiment) for cell in chain.cells]
    records = read_results(folder, cells)
    scores = scores_by_task(experiment, records)
    if not scores:
        raise ResultsError(
            f"{folder}: expected runs of the default and the random policy on some task, got "
            f"{len(records)} runs; make them with: hyperoracle experiment run {experiment.name}"
        )
    claims: list[Claim] = []
    if experiment.strategies == (DEFAULT,):
        said = _areas_said(experiment, scores, folder)
    else:
        said, claims = _comparisons_said(experiment, scores, folder)
    lines = [
        f"# {experiment.tables.title}",
        "",
        f"{len(records)} of {len(cells)} runs are made. {_PURPOSES[experiment.tables.purpose]}",
        "",
        *_made_with(records),
        "",
        *said,
        "",
    ]
    page = folder / "README.md"
    page.write_text("\n".join(lines), encoding="utf-8")
    made_with = provenance()
    figures = {
        "name": experiment.name,
        "machine": made_with["machine"],
        "commit": made_with["commit"],
        "runs": len(records),
        "planned_runs": len(cells),
        "rows": [claim.row() for claim in claims],
    }
    return ExperimentReport(page, claims, figures)


def _areas_said(experiment: Experiment, scores: dict[str, TaskScores], folder: Path) -> list[str]:
    """Return what is to be said of the default alone, and draw it."""
    areas = areas_of(experiment, scores)
    pictures = draw_areas(experiment, scores, areas, folder)
    return [_AREAS_EXPLAINED, "", *_shown_pictures(pictures), "", *_areas_table(areas)]


def _comparisons_said(
    experiment: Experiment, scores: dict[str, TaskScores], folder: Path
) -> tuple[list[str], list[Claim]]:
    """Return what is to be said of strategies, and draw it."""
    comparisons = compare(experiment, scores)
    contests = contests_of(experiment, scores)
    scopes = scopes_of(experiment)
    with_memory = [name for name in experiment.strategies if experiment.has_memory(name)]
    claims = claims_of(comparisons)
    claims += claims_over_references(contests, scopes[-1].name, with_memory)
    pictures = draw_pictures(experiment, scores, comparisons, folder)
    lines = [_EXPLAINED, "", *_shown_pictures(pictures)]
    for scope in scopes:
        its = [each for each in comparisons if each.scope == scope]
        if its:
            name = scope.name
            title = name if name in scores else f"{name.capitalize()}: {', '.join(scope.tasks)}"
            areas = _task_areas(scores[name]) if name in scores else []
            lines += ["", f"## {title}", "", *areas, *_table(its)]
    if contests:
        lines += ["", *_contests_table(contests)]
    lines += ["", "## What is shown", "", *_claims_table(claims)]
    return lines, claims


def _shown_pictures(paths: Sequence[Path]) -> list[str]:
    return [f"![{path.stem.replace('_', ' ')}]({path.name})" for path in paths]


def _made_with(records: Sequence[Record]) -> list[str]:
    """Say how the runs were made; where several answers were recorded, all of them."""
    packages = {
        f"{name} {number}" for record in records for name, number in record["packages"].items()
    }
    hours = sum(record["wall_seconds"] for record in records) / 3600
    said = {
        "Commands": sorted({f"`{record['command']}`" for record in records}),
        "Commits": sorted({str(record["commit"]) for record in records}),
        "Packages": sorted(packages),
        "Machines": sorted({record["machine"] for record in records}),
        "Hours of one core": [f"{hours:.2f}"],
    }
    return [f"- {what}: {', '.join(found)}" for what, found in said.items()]


def _task_areas(scores: TaskScores) -> list[str]:
    areas = f"random policy {scores.random_area:.4g}, default {scores.default_area:.4g}"
    return [f"Area: {areas}.", ""]


def _areas_table(areas: Sequence[Area]) -> list[str]:
    rows = [
        "| task | environment | n | area | random policy | diverged |",
        "|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {each.task} | {each.env_id} | {each.memories} | {_shown(each.area, '.4g')} "
        f"| {each.random_area:.4g} | {each.diverged} |"
        for each in areas
    ]
    return rows


def _table(comparisons: Sequence[Comparison]) -> list[str]:
    rows = [
        "| strategy | earlier runs | n | IQM | gain | bound | P(better) | all so far | diverged |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in comparisons:
        bound = "" if each.gain is None else f"{float(each.gain.lower_bound):+.3f}"
        size = "any" if each.earlier_runs is None else each.earlier_runs
        rows.append(
            f"| {each.strategy} | {size} | {each.memories} | {_shown(each.score)} "
            f"| {_shown(each.gain, '+.3f')} | {bound} | {_shown(each.improvement)} "
            f"| {_shown(each.gain_so_far, '+.3f')} | {each.diverged} |"
        )
    return rows


def _contests_table(contests: Sequence[Contest]) -> list[str]:
    rows = [
        "## Against references",
        "",
        "Each at the greatest memory size that both have, differences of the same memory number.",
        "",
        "| tasks | strategy | earlier runs | over | n | gain | P(better) | bound | worst | gain |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in contests:
        size = "any" if each.earlier_runs is None else each.earlier_runs
        rows.append(
            f"| {each.scope.name} | {each.strategy} | {size} | {each.reference} | {each.memories} "
            f"| {_shown(each.gain, '+.3f')} | {_shown(each.improvement)} "
            f"| {float(each.improvement.lower_bound):.3f} "
            f"| {each.worst_task} | {each.worst_gain:+.3f} |"
        )
    return rows


def _shown(estimate: Estimate | None, form: str = ".3f") -> str:
    if estimate is None:
        return ""
    value, low, high = (float(each) for each in (estimate.value, estimate.low, estimate.high))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _claims_table(claims: Sequence[Claim]) -> list[str]:
    rows = ["| claim | n | measured | must exceed | |", "|---|---|---|---|---|"]
    for claim in claims:
        words = {True: "shown", False: "not shown", None: f"not shown: n={claim.memories}"}
        rows.append(
            f"| {claim.what} | {claim.memories} | {claim.value:.3f} | {claim.budget:g} "
            f"| {words[claim.ok]} |"
        )
    return rows
