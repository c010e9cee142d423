from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_client.job.delivery.sequences import SequenceBook

OPERATIONS = st.lists(st.sampled_from(["applied", "failed", "lost", "report"]), max_size=60)


def credited(reports: list, proposals: set[int]) -> dict[int, list[int]]:
    """What the wire contract says each report credits: proposals in (after, through] but for
    those that are named as not applied."""
    return {
        r.sequence: [
            p for p in sorted(proposals)
            if r.credits_after < p <= r.credits_through and p not in r.not_applied
        ]
        for r in reports
    }  # fmt: skip


@given(OPERATIONS, st.integers(0, 1000))
def test_a_report_credits_exactly_the_applied_proposals_of_the_phase_before_it(
    operations: list[str], last_sequence: int
) -> None:
    book = SequenceBook(last_sequence)
    proposals: set[int] = set()
    reports = []
    phase: list[int] = []
    expected: dict[int, list[int]] = {}
    for operation in operations:
        if operation == "report":
            reports.append(book.report())
            expected[reports[-1].sequence] = phase
            phase = []
            continue
        sequence, _ = book.issue()
        proposals.add(sequence)
        if operation != "lost":  # an interrupt came before its fate was known
            book.settle(applied=operation == "applied")
        if operation == "applied":
            phase.append(sequence)
    assert credited(reports, proposals) == expected


@given(OPERATIONS)
def test_sequences_only_grow_and_are_shared_by_proposals_and_reports(operations: list[str]) -> None:
    book = SequenceBook()
    handed_out = [
        book.report().sequence if operation == "report" else book.issue()[0]
        for operation in operations
    ]
    assert handed_out == list(range(1, len(operations) + 1))


def test_a_proposal_lists_the_failed_ones_that_no_report_has_covered() -> None:
    book = SequenceBook()
    book.issue()
    book.settle(applied=False)
    assert book.issue() == (2, [1])
    book.settle(applied=True)
    assert book.report() == (3, 2, 0, [1])
    assert book.issue() == (4, [])


def test_a_prefetched_proposal_belongs_to_the_report_after_its_use() -> None:
    book = SequenceBook()
    book.issue()
    book.settle(applied=True)
    book.issue()  # asked for the next update, not used yet
    assert book.report() == (3, 1, 0, [])
    book.settle(applied=True)
    assert book.report() == (4, 2, 1, [])


def test_a_resumed_job_credits_nothing_of_the_process_before_it() -> None:
    book = SequenceBook(last_sequence=7)
    assert book.report() == (8, 7, 7, [])
