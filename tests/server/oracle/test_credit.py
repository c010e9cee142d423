"""Credit goes by sequence, never by arrival: against a plain model of an orderly job."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_protocol.jobs import Report
from hyperoracle_protocol.studies import ReturnSetting
from hyperoracle_server.oracle.credit import (
    MAX_NOT_APPLIED,
    MAX_WAITING,
    CreditBook,
    hyper_returns,
    hyper_rewards,
)


def test_with_one_phase_every_update_gets_the_return():
    # Eq. 1 and n = 1: the hyper-return of each of the phase's updates is G itself.
    assert hyper_returns([([1, 2, 3], 7.0)]) == {1: 7.0, 2: 7.0, 3: 7.0}


def test_with_three_phases_an_update_gets_the_rewards_from_its_own_phase_on():
    # By hand: rewards 1, 10, 100; the first phase's updates see all three.
    phases = [([1, 2], 1.0), ([4], 10.0), ([6, 7], 100.0)]
    assert hyper_returns(phases) == {1: 111.0, 2: 111.0, 4: 110.0, 6: 100.0, 7: 100.0}


def test_the_reward_is_0_but_at_the_last_update_of_a_phase():
    phases = [([1, 2], 1.0), ([4], 10.0), ([6, 7], 100.0)]
    assert hyper_rewards(phases) == {1: 0.0, 2: 1.0, 4: 10.0, 6: 0.0, 7: 100.0}
    # A phase without an update (its decision was held) pays the one before.
    assert hyper_rewards([([1, 2], 1.0), ([], 10.0), ([5], None)]) == {1: 0.0, 2: 11.0, 5: None}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-50, 50) | st.none()), max_size=6))
def test_a_hyper_return_is_the_sum_of_the_rewards_to_the_end(shape):
    sequence, phases = 0, []
    for count, reward in shape:
        phases.append((list(range(sequence, sequence + count)), reward))
        sequence += count
    returns, rewards = hyper_returns(phases), hyper_rewards(phases)
    assert rewards.keys() == returns.keys() == set(range(sequence))
    for s, hyper_return in returns.items():
        later = [rewards[other] for other in range(s, sequence)]
        assert hyper_return == (None if None in later else sum(later))


def test_a_credit_says_what_came_before_the_next_and_whether_it_was_the_last():
    book = CreditBook(2, ReturnSetting(kind="phase_episodes"))
    for s in (1, 2, 4):
        book.add_proposal(s)
    for s, through, value in ((3, 2, 7.0), (5, 4, 9.0)):
        report = Report(sequence=s, credits_through=through, env_step=s, episode_returns=[value])
        settlement = book.add_report(report)
    got = [(c.sequence, c.hyper_return, c.hyper_reward, c.ends_episode) for c in settlement.credits]
    assert got == [(1, 16.0, 0.0, False), (2, 16.0, 7.0, False), (4, 9.0, 9.0, True)]


def test_an_unknown_return_leaves_only_the_phases_after_it_known():
    phases = [([1], 1.0), ([2], None), ([3], 100.0)]
    assert hyper_returns(phases) == {1: None, 2: None, 3: 100.0}


@dataclass
class PlainJob:
    """What an orderly job did: its proposals per phase, and each phase's report."""

    proposals: list[list[int]]
    not_applied: set[int]
    reports: list[Report]

    def credits(self, n: int) -> dict[int, float]:
        """The model: phases in order, in groups of n from the first applied proposal on."""
        phases = [
            ([s for s in sequences if s not in self.not_applied], report.phase_return)
            for sequences, report in zip(self.proposals, self.reports, strict=True)
        ]
        while phases and not phases[0][0]:
            phases.pop(0)
        expected: dict[int, float] = {}
        while phases:
            episode, phases = phases[:n], phases[n:]
            if len(episode) == n:
                for i, (sequences, _) in enumerate(episode):
                    total = sum(g for _, g in episode[i:])
                    expected.update(dict.fromkeys(sequences, total))
            while phases and not phases[0][0]:
                phases.pop(0)
        return expected


@st.composite
def plain_jobs(draw, max_phases: int = 12) -> PlainJob:
    sequence = 0
    proposals, reports, not_applied = [], [], set()
    previous = covered = 0
    # The first environment phase ends before any proposal was made.
    for _ in range(draw(st.integers(1, max_phases))):
        made = [sequence + 1 + i for i in range(draw(st.integers(0, 4)))]
        sequence += len(made)
        lost = {s for s in made if draw(st.booleans()) and draw(st.booleans())}
        not_applied |= lost
        through = made[-1] if made else covered
        sequence += 1
        reports.append(
            Report(
                sequence=sequence,
                credits_through=through,
                credits_after=covered,
                previous_report=previous,
                not_applied=sorted(lost),
                phase_return=draw(st.integers(-1000, 1000)),
                env_step=sequence,
            )
        )
        proposals.append(made)
        previous, covered = sequence, through
    return PlainJob(proposals, not_applied, reports)


def book(n: int) -> CreditBook:
    return CreditBook(n, ReturnSetting(kind="phase_return"))


def offer_proposals(credit: CreditBook, job: PlainJob, *, phase: int) -> None:
    for sequence in job.proposals[phase]:
        credit.add_proposal(sequence)


@given(plain_jobs(), st.integers(1, 4))
def test_in_order_each_applied_proposal_gets_its_own_phases_return(job, n):
    credit, got = book(n), {}
    for phase, report in enumerate(job.reports):
        offer_proposals(credit, job, phase=phase)
        for one in credit.add_report(report).credits:
            assert one.sequence not in got, "credited twice"
            got[one.sequence] = one.hyper_return
    assert got == job.credits(n)


@given(plain_jobs(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_credit(job, n, random):
    credit, got = book(n), {}
    for phase in range(len(job.reports)):  # proposals are answered before reports can overtake
        offer_proposals(credit, job, phase=phase)
    shuffled = list(job.reports)
    random.shuffle(shuffled)
    for report in shuffled:
        for one in credit.add_report(report).credits:
            got[one.sequence] = one.hyper_return
    assert got == job.credits(n)


@given(plain_jobs(), st.integers(1, 4), st.randoms(use_true_random=False), st.integers(0, 12))
def test_a_restart_in_between_changes_nothing(job, n, random, restart_after):
    credit, got, arrived = book(n), {}, []
    for phase in range(len(job.reports)):
        offer_proposals(credit, job, phase=phase)
    shuffled = list(job.reports)
    random.shuffle(shuffled)
    waiting: dict[int, Report] = {}
    for i, report in enumerate(shuffled):
        settlement = credit.add_report(report)
        arrived.append(report)
        if settlement.status == "waiting":
            waiting[report.sequence] = report
        for sequence in settlement.applied_reports:
            waiting.pop(sequence, None)
        got.update((one.sequence, one.hyper_return) for one in settlement.credits)
        if i == restart_after:
            state = json.loads(json.dumps(credit.dump()))
            still_open = sorted(credit.open_sequences)
            credit = book(n)
            credit.restore(state, still_open, list(waiting.values()))
    assert got == job.credits(n)


@given(plain_jobs(), st.randoms(use_true_random=False), st.data())
def test_a_report_that_never_comes_costs_only_its_own_proposals(job, random, data):
    missing = data.draw(st.integers(0, len(job.reports) - 1))
    credit, got = book(1), {}
    for phase in range(len(job.reports)):
        offer_proposals(credit, job, phase=phase)
    arriving = [r for i, r in enumerate(job.reports) if i != missing]
    random.shuffle(arriving)
    for report in arriving:
        got.update((one.sequence, one.hyper_return) for one in credit.add_report(report).credits)
    settlement = credit.finish()
    got.update((one.sequence, one.hyper_return) for one in settlement.credits)
    lost = set(job.proposals[missing])
    assert got == {s: g for s, g in job.credits(1).items() if s not in lost}
    assert credit.open_sequences == frozenset()


def test_a_gap_is_given_up_when_too_many_reports_wait_for_it():
    credit = book(1)
    statuses = []
    for i in range(1, MAX_WAITING + 3):
        credit.add_proposal(2 * i)
        report = Report(sequence=2 * i + 1, credits_through=2 * i, credits_after=2 * i - 2,
                        previous_report=2 * i - 1, phase_return=i, env_step=i)  # fmt: skip
        statuses.append(credit.add_report(report))
    # Report 1 (sequence 1) never came; the 65th that waits for it gives it up.
    assert [s.status for s in statuses[:MAX_WAITING]] == ["waiting"] * MAX_WAITING
    assert len(statuses[MAX_WAITING].credits) == MAX_WAITING + 1
    assert statuses[MAX_WAITING + 1].status == "applied"
    late = Report(sequence=1, credits_through=0, previous_report=0, phase_return=5, env_step=0)
    assert credit.add_report(late).status == "late"


def test_a_proposal_that_a_report_has_already_covered_is_not_creditable():
    credit = book(1)
    credit.add_report(Report(sequence=5, credits_through=4, phase_return=1, env_step=1))
    assert not credit.add_proposal(3)
    assert credit.add_proposal(6)


def test_without_the_optional_fields_a_report_credits_all_that_is_open_up_to_its_bound():
    # As `curl` would send it: no previous_report, no credits_after.
    credit = book(1)
    for sequence in (1, 2, 4):
        credit.add_proposal(sequence)
    settlement = credit.add_report(
        Report(sequence=3, credits_through=2, phase_return=9, env_step=1)
    )
    assert [(c.sequence, c.hyper_return) for c in settlement.credits] == [(1, 9.0), (2, 9.0)]
    assert credit.open_sequences == {4}


def test_a_report_before_any_proposal_credits_nothing_and_begins_no_learning_episode():
    credit = book(2)
    first = credit.add_report(Report(sequence=1, credits_through=0, phase_return=5, env_step=1))
    assert (first.status, first.credits) == ("applied", [])
    credit.add_proposal(2)
    credit.add_report(Report(sequence=3, credits_through=2, phase_return=7, env_step=2))
    credit.add_proposal(4)
    last = credit.add_report(Report(sequence=5, credits_through=4, phase_return=11, env_step=3))
    assert {c.sequence: c.hyper_return for c in last.credits} == {2: 18.0, 4: 11.0}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (ReturnSetting(kind="last_episodes", count=2), [None, 2.5, 3.5, 3.5]),
        (ReturnSetting(kind="phase_episodes"), [None, 2.0, 4.0, None]),
        (ReturnSetting(kind="phase_return"), [10.0, 20.0, None, 40.0]),
        (ReturnSetting(kind="custom"), [None, None, 0.5, None]),
    ],
)
def test_the_return_is_the_number_that_the_study_names(setting, expected):
    # By hand: episodes end as [], [1, 2, 3], [4], []; two last: (2+3)/2, (3+4)/2.
    credit = CreditBook(1, setting)
    reports = [
        Report(sequence=1, credits_through=0, phase_return=10, env_step=1),
        Report(sequence=2, credits_through=0, env_step=2, phase_return=20,
               episode_returns=[1, 2, 3]),
        Report(sequence=3, credits_through=0, custom_return=0.5, env_step=3, episode_returns=[4]),
        Report(sequence=4, credits_through=0, phase_return=40, env_step=4),
    ]  # fmt: skip
    assert [credit.add_report(report).last_return for report in reports] == expected


def test_a_phase_whose_return_is_unknown_credits_nothing():
    credit = CreditBook(1, ReturnSetting(kind="phase_episodes"))
    credit.add_proposal(1)
    settlement = credit.add_report(Report(sequence=2, credits_through=1, env_step=1))
    assert settlement.credits == []
    assert settlement.uncredited == [1]


def test_the_latest_return_is_that_of_the_last_report_that_had_one():
    """Reports that waited are applied with the one that they waited for."""
    credit = CreditBook(1, ReturnSetting(kind="phase_episodes"))
    without = Report(sequence=2, credits_through=0, env_step=2, previous_report=1)
    assert credit.add_report(without).status == "waiting"
    with_one = Report(
        sequence=1, credits_through=0, env_step=1, episode_returns=[7.0], previous_report=0
    )
    settlement = credit.add_report(with_one)
    assert settlement.applied_reports == [1, 2]
    assert (settlement.last_return, settlement.curve) == (7.0, [(1, 7.0)])


def test_the_last_update_of_a_phase_is_known_as_such():
    credit = book(1)
    for sequence in (1, 2, 3):
        credit.add_proposal(sequence)
    settlement = credit.add_report(
        Report(sequence=4, credits_through=3, phase_return=1, env_step=1)
    )
    assert [(c.position, c.last_in_phase) for c in settlement.credits] == [
        (0, False), (1, False), (2, True)]  # fmt: skip


def test_what_a_job_says_it_does_not_apply_takes_no_memory_without_end():
    """The earliest are kept: proposals come in about this order."""
    book = CreditBook(1, ReturnSetting())
    for call in range(3):
        book.mark_not_applied(range(1 + call * MAX_NOT_APPLIED, 1 + (call + 1) * MAX_NOT_APPLIED))
    assert book.dump()["not_applied"] == list(range(1, MAX_NOT_APPLIED + 1))
    assert not book.add_proposal(MAX_NOT_APPLIED)
    assert book.add_proposal(MAX_NOT_APPLIED + 1)
