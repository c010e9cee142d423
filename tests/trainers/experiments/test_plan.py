from __future__ import annotations

from pathlib import Path

from trainers.experiments.planted import cells_of, tiny

from hyperoracle_trainers.experiments.plan import chains_of, seed_of


def test_a_chain_has_every_earlier_run_and_the_default_only_what_is_compared(
    tmp_path: Path,
) -> None:
    chains = {chain.name: list(chain.cells) for chain in chains_of(tiny(tmp_path))}
    assert [cell.earlier_runs for cell in chains["brief--best_config--memory001"]] == [0, 1, 2]
    assert [cell.is_measured for cell in chains["brief--best_config--memory001"]] == [
        True,
        False,
        True,
    ]
    assert [cell.earlier_runs for cell in chains["brief--default--memory001"]] == [0, 2]
    assert len(chains["brief--random_policy"]) == 1


def test_concurrent_jobs_know_the_same_earlier_runs(tmp_path: Path) -> None:
    experiment = tiny(tmp_path, ("memories = 2", "memories = 2\nconcurrent_jobs = 2"))
    chain = next(chain for chain in chains_of(experiment) if "--best_config--" in chain.name)
    earlier = [[cell.earlier_runs for cell in each] for each in chain.generations]
    assert earlier == [[0, 0], [2, 2]]
    assert [cell.job for cell in chain.cells] == [0, 1, 2, 3]


def test_strategies_are_compared_with_the_same_seeds(tmp_path: Path) -> None:
    seeds: dict[tuple[int, int], set[int]] = {}
    for cell in cells_of(tiny(tmp_path)):
        if cell.strategy != "random_policy":
            seeds.setdefault((cell.memory, cell.job), set()).add(cell.seed)
    assert all(len(each) == 1 for each in seeds.values())
    assert len({each.pop() for each in seeds.values()}) == 6


def test_tuning_and_reporting_never_share_a_seed() -> None:
    tuning = {seed_of("tuning", "task", number) for number in range(500)}
    reporting = {seed_of("reporting", "task", number) for number in range(500)}
    assert max(tuning) < 2**30 <= min(reporting)
    assert max(reporting) < 2**31
    assert len(tuning) > 490


def test_a_fingerprint_changes_with_what_the_run_depends_on_and_nothing_else(
    tmp_path: Path,
) -> None:
    def fingerprints(*changes: tuple[str, str]) -> dict[str, str]:
        return {cell.name: cell.fingerprint for cell in cells_of(tiny(tmp_path, *changes))}

    before = fingerprints()
    more = fingerprints(("memories = 2", "memories = 3"))
    assert all(more[name] == each for name, each in before.items())
    longer = fingerprints(("total_env_steps = 64", "total_env_steps = 96"))
    assert not set(longer.values()) & set(before.values())
    wider = fingerprints(("scale:0.5,1,2", "scale:0.25,1,4"))
    assert {name for name in before if wider[name] != before[name]} == {
        name for name in before if "--best_config--" in name
    }


def test_what_a_job_could_remember_may_decide_its_role(tmp_path: Path) -> None:
    roles = 'memories = 2\nwarm_up_role = "explore"\n'
    roles += 'measured_role = { cold = "auto", warm = "exploit" }'
    experiment = tiny(tmp_path, ("memories = 2", roles))
    chain = next(chain for chain in chains_of(experiment) if "--best_config--" in chain.name)
    assert [cell.role for cell in chain.cells] == ["auto", "explore", "exploit"]


FEWER = ("[strategies.best_config]", "[strategies.best_config]\nmemories = 2")
BESIDE = (
    'env = "BriefCartPole-v0"',
    'env = "BriefCartPole-v0"\n[tasks.costly]\nenv = "BriefCartPole-v0"\nmemories = 1',
)


def test_costly_strategies_and_tasks_have_fewer_memories_in_the_same_order(tmp_path: Path) -> None:
    more = ("memories = 2", "memories = 3")
    names = [chain.name for chain in chains_of(tiny(tmp_path, more, FEWER, BESIDE))]
    assert names == [
        "brief--random_policy",
        "costly--random_policy",
        "brief--default--memory000",
        "brief--best_config--memory000",
        "costly--default--memory000",
        "costly--best_config--memory000",
        "brief--default--memory001",
        "brief--best_config--memory001",
        "brief--default--memory002",
    ]


def test_without_a_memory_only_what_is_compared_is_run(tmp_path: Path) -> None:
    said = "[strategies.random]\n[strategies.once]\n"
    said += 'definition = { name = "kl_adaptive" }\nmemory_sizes = [0]'
    experiment = tiny(tmp_path, ("[strategies.best_config]", said))
    earlier: dict[str, list[int]] = {}
    for cell in cells_of(experiment):
        if cell.memory == 1:
            assert cell.is_measured
            earlier.setdefault(cell.strategy, []).append(cell.earlier_runs)
    assert earlier == {"default": [0, 2], "random": [0, 2], "once": [0]}
