"""What a job's proposals and reports add up to."""

import pytest

from hyperoracle_server.oracle.job import JobCounts


def test_counts_add_up_and_the_higher_sequence_stays():
    known = JobCounts(proposals=3, reports=2, credited=2, memory_reads=1, last_sequence=9)
    newer = JobCounts(proposals=1, neighbours_read=5, last_sequence=7)
    assert known + newer == JobCounts(
        proposals=4, reports=2, credited=2, neighbours_read=5, memory_reads=1, last_sequence=9
    )
    assert known.proposals == 3


def test_they_come_back_as_they_were_written():
    counts = JobCounts(proposals=4, not_applied=1, neighbours_other=2, memory_hits=3)
    counts.last_sequence = 8
    assert JobCounts.load(counts.dump()) == counts


def test_notices_are_merged_by_the_higher_count_and_come_back():
    known = JobCounts(notices={"no_return": 3, "report_dropped": 1})
    known.noticed({"no_return": 2, "report_dropped": 4})
    assert known.notices == {"no_return": 3, "report_dropped": 4}
    both = known + JobCounts(notices={"signal_missing": 1})
    assert both.notices == {"no_return": 3, "report_dropped": 4, "signal_missing": 1}
    assert JobCounts.load(both.dump()) == both
    known.noticed({f"n{number}": 1 for number in range(100)})
    assert len(known.notices) == 32


@pytest.mark.parametrize(
    "text",
    ['{"proposals": "x"}', '{"proposals": -1}', '{"notices": {"a": 0.5}}', '{"notices": "x"}'],
)
def test_what_are_no_counts_is_refused(text):
    with pytest.raises((ValueError, TypeError)):
        JobCounts.load(text)
