"""Figures of a run as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from hyperoracle_trainers.bench.figures import Figure
from hyperoracle_trainers.bench.report import budget, short, verdict
from hyperoracle_trainers.hyperparameters.presets import PaperPreset

_WIDEST = 1000

_LONG_AGO = 0.9  # of a run's env steps: the last returns tell little of the policy then


def show(table: Table) -> None:
    """Print a table, wider than the terminal where that is too narrow for its longest words."""
    for column in table.columns:
        if column.no_wrap:  # which rich cuts off nevertheless
            column.min_width = max(map(len, map(str, (column.header, *column.cells))))
    console = Console()
    widest = console.options.update(max_width=_WIDEST)
    least = Measurement.get(console, widest, table).minimum
    if least > console.width:
        console = Console(width=least)
    console.print(table)


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """Return a number for people, ``"-"`` for None."""
    if value is None:
        return "-"
    text = f"{value:,.{digits}f}" if isinstance(value, float) else f"{value:,}"
    return f"{text} {unit}".rstrip()


def run_table(figures: Mapping[str, Any]) -> Table:
    """Return the table of one run.

    Args:
        figures: what `carry_out` returns.
    """
    title = f"{figures['algorithm']} on {figures['env_id']}, seed {figures['seed']}"
    if figures["status"] != "completed":
        title += f" ({figures['status']})"
    table = _two_columns(title, _training_rows(figures))
    if figures["oracle"] is not None:
        table.add_section()
        for what, value in _oracle_rows(figures["oracle"]):
            table.add_row(what, escape(value))
    return table


def evaluation_table(figures: Mapping[str, Any]) -> Table:
    """Return the table of the evaluation of a saved policy.

    Args:
        figures: what `evaluate_saved_policy` returns.
    """
    returns = figures["evaluation_returns"]
    rows = [
        ("trained for", number(figures["env_steps"], unit="env steps")),
        ("episodes", _ended(figures)),
        ("mean return", number(figures["evaluation_return"])),
        ("least", number(min(returns, default=None))),
        ("greatest", number(max(returns, default=None))),
        ("seed of the evaluation", number(figures["seed"])),
    ]
    return _two_columns(f"{figures['algorithm']} on {figures['env_id']}", rows)


def presets_table(presets: Iterable[PaperPreset]) -> Table:
    """Return the table of the paper's settings: two columns, which 80 columns of text hold."""
    table = Table(title="Presets: settings of the paper's experiments", title_justify="left",
                  show_header=False)  # fmt: skip
    table.add_column(no_wrap=True)
    table.add_column()
    for preset in presets:
        steps = number(preset.trainer["total_env_steps"].value, unit="env steps")
        about = f"{preset.experiment}\n{preset.algorithm} on {preset.env_id}, {steps}"
        table.add_row(preset.name, escape(about))
    return table


def oracle_table(oracle: Mapping[str, Any]) -> Table:
    """Return the table of what the demo's oracle did.

    Args:
        oracle: the entry of that name of
            `demo_figures`.
    """
    share = oracle["neighbours_from_other_jobs"]
    overheads = " and ".join(number(each, 2) for each in oracle["overhead_percent"])
    rows = [
        ("strategy", oracle["strategy"]),
        ("proposals", number(oracle["proposals"])),
        ("  credited with a return", number(oracle["credited_proposals"])),
        ("reports", number(oracle["reports"])),
        ("memory size", f"{oracle['memory_size']:,} of {oracle['memory_capacity']:,}"),
        ("encoder version", number(oracle["encoder_version"])),
        (
            "neighbours from the other job",
            number(None if share is None else 100.0 * share, 1, "% of those read"),
        ),
        ("updates under a held decision", number(oracle["held_updates"])),
        ("updates on the defaults (fallbacks)", number(oracle["fallbacks"])),
        ("  because an answer came too late", number(oracle["late_answers"])),
        ("overhead of the two jobs", f"{overheads} %"),
    ]
    return _two_columns("The oracle", rows)


def jobs_table(figures: Mapping[str, Any]) -> Table:
    """Return the table of the demo's runs.

    Args:
        figures: what `demo_figures` returns.
    """
    table = Table(title=f"ppo on {figures['env_id']}", title_justify="left")
    table.add_column("run")
    for name in ("seed", "env steps", "final return", "evaluation return", "wall time"):
        table.add_column(name, justify="right")
    for kind, runs in (("job", figures["jobs"]), ("alone", figures["without_oracle"] or ())):
        for index, run in enumerate(runs, start=1):
            table.add_row(
                f"{kind} {index}",
                number(run["seed"]),
                number(run["env_steps"]),
                number(run["final_return"]),
                number(run["evaluation_return"]),
                number(run["wall_seconds"], 1, "s"),
            )
    return table


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """Return the table of both arms' means side by side.

    Args:
        comparison: the entry of that name of
            `demo_figures`.
    """
    table = Table(title="Mean of both seeds", title_justify="left")
    table.add_column("")
    table.add_column("with the oracle", justify="right")
    table.add_column("without", justify="right")
    for name, unit in (("final_return", ""), ("mean_return", ""), ("evaluation_return", ""),
                       ("wall_seconds", "s")):  # fmt: skip
        arms = (comparison["with_oracle"][name], comparison["without_oracle"][name])
        what = name.replace("wall_seconds", "wall time").replace("_", " ")
        table.add_row(what, *(number(arm, 1, unit) for arm in arms))
    return table


def figures_table(name: str, figures: Sequence[Figure]) -> Table:
    """Return the table of what a benchmark measured."""
    table = Table(title=f"hyperoracle bench {name}", title_justify="left")
    table.add_column("measured")
    for column in ("value", "beside it", "budget"):
        table.add_column(column, justify="right")
    for each in figures:
        beside = "\n".join(
            f"{what} {short(value, each.unit)}" for what, value in each.beside.items()
        )
        table.add_row(
            escape(each.what),
            short(each.value, each.unit),
            escape(beside),
            f"{budget(each)} {verdict(each)}",
        )
    return table


def _two_columns(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(justify="left")
    table.add_column(justify="right")
    for what, value in rows:
        table.add_row(what, escape(value))
    return table


def _training_rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("env steps", number(figures["env_steps"])),
        ("update steps", number(figures["update_steps"])),
        ("episodes", number(figures["episodes"])),
        ("final return (last 20 episodes)", number(figures["final_return"])),
        ("mean return", number(figures["mean_return"])),
        (f"evaluation return ({_ended(figures)} episodes)", number(figures["evaluation_return"])),
        ("wall time", number(figures["wall_seconds"], 1, "s")),
        ("speed", number(figures["env_steps_per_second"], 0, "env steps/s")),
    ]
    last = figures["last_episode_env_step"]
    if last is not None and last < _LONG_AGO * figures["env_steps"]:
        rows.insert(3, ("last episode ended at env step", number(last)))
    return rows


def _overhead_rows(oracle: Mapping[str, Any]) -> list[tuple[str, str]]:
    taken, beside = oracle["overhead_seconds"], oracle["beside_overhead_seconds"]
    at_its_ends = taken["start"] + taken["finish"]
    overhead = "overhead, at least" if taken["slowed"] is None else "overhead"
    return [
        (overhead, number(oracle["overhead_percent"], 2, "%")),
        ("  in proposals and reports", number(taken["calls"], 2, "s")),
        ("  starting and finishing the job", number(at_its_ends, 2, "s")),
        ("  waiting for its threads here", number(taken["interpreter"], 2, "s")),
        ("  slower between the calls", number(taken["slowed"], 2, "s")),
        ("beside it: other waiting", number(beside["waiting"], 2, "s")),
        ("beside it: the oracle's CPU time", number(beside["oracle_cpu"], 2, "s")),
    ]


def _ended(figures: Mapping[str, Any]) -> str:
    """Return how many episodes of an evaluation ended, and of how many if not all did."""
    ended, wanted = len(figures["evaluation_returns"]), figures["evaluation_episodes"]
    return number(ended) if ended == wanted else f"{number(ended)} of {number(wanted)}"


def _oracle_rows(oracle: Mapping[str, Any]) -> list[tuple[str, str]]:
    stats = oracle["stats"]
    rows = [
        ("oracle", oracle["url"]),
        ("study", oracle["study"]),
        ("job", oracle["job_id"] or "never joined"),
        ("role", oracle["role"] or "-"),
        ("proposals", number(stats["proposals"])),
        ("updates under a held decision", number(stats["held"])),
        ("updates on the defaults (fallbacks)", number(stats["fallbacks"])),
        ("reports acknowledged", number(stats["reports_sent"])),
        ("reports not delivered", number(stats["reports_pending"] + stats["reports_dropped"])),
        *_overhead_rows(oracle),
    ]
    if stats["applied_differently"]:
        rows.append(("updates that used other values", number(stats["applied_differently"])))
    if stats["notices"]:
        told = ", ".join(f"{name} ({number(count)})" for name, count in stats["notices"].items())
        rows.append(("noticed (see the log)", told))
    if stats["last_error"] is not None:
        rows.append(("last trouble", stats["last_error"]))
    return rows
