"""What a job's proposals and reports add up to."""

from hyperoracle_server.job_counts import JobCounts


def test_counts_add_up_and_the_higher_sequence_stays():
    known = JobCounts(proposals=3, reports=2, credited=2, memory_reads=1, last_sequence=9)
    newer = JobCounts(proposals=1, neighbours_read=5, last_sequence=7)
    assert known + newer == JobCounts(
        proposals=4, reports=2, credited=2, neighbours_read=5, memory_reads=1, last_sequence=9
    )
    assert known.proposals == 3


def test_they_come_back_as_they_were_written():
    counts = JobCounts(proposals=4, not_applied=1, neighbours_other=2, memory_hits=3)
    counts.saw(8)
    counts.saw(5)
    assert counts.last_sequence == 8
    assert JobCounts.load(counts.dump()) == counts
