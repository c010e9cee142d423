"""What is answered to a request of a job, as it is sent and kept: bytes.

Fields that say something only now and then are there only then. What a job's calls lack that its
study needs is counted and answered, so that nothing is lost in silence: a proposal without the
signal by which the strategy decides, a report without a number of the study's kind of return. The
client notices much of this as well; this is for every caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperoracle_protocol.jobs import Proposal, Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from hyperoracle_protocol.jobs import ProposeMetadata, Report
    from hyperoracle_protocol.studies import ReturnSetting
    from hyperoracle_server.oracle.credit import Settlement
    from hyperoracle_server.oracle.job import JobState
    from hyperoracle_server.strategies.decisions import Decision


def receipt(
    report: Report,
    settlement: Settlement,
    returns: ReturnSetting,
    *,
    ask_again: bool,
    note: str | None = None,
) -> bytes:
    """A report's receipt."""
    answer = Receipt.model_construct(
        sequence=report.sequence,
        status=settlement.status,
        credited=len(settlement.credits),
        ask_again=ask_again,
        note="; ".join(filter(None, (note, report.fields_meant))) or None,
        unknown_fields=report.unknown_fields,
        return_missing=is_without_return(report, returns),
    )
    silent = {n for n in ("note", "unknown_fields", "return_missing") if not getattr(answer, n)}
    return answer.model_dump_json(exclude=silent).encode()


def proposal(
    job: JobState,
    request: ProposeMetadata,
    decision: Decision,
    bins: Sequence[int],
    hyperparameters: dict[str, Any],
    is_held: bool,
) -> bytes:
    """The answer to a proposal's request.

    Args:
        job: that asked; `job.held` is what is in force now.
        request: what it asked.
        decision: what is answered.
        bins: the decision's, of each hyperparameter.
        hyperparameters: what they mean.
        is_held: whether the decision was made for an earlier request.
    """
    until_env_step = None if job.held is None else job.held.until_env_step
    valid_for_updates = 1
    if job.held is not None and until_env_step is None:
        valid_for_updates = max(1, job.held.until_update_step - request.update_step)
    answer = Proposal.model_construct(
        proposal_id=f"{job.public_id}.{request.sequence}",
        sequence=request.sequence,
        hyperparameters=hyperparameters,
        bins=list(bins),
        explored=decision.explored,
        epsilon=decision.epsilon,
        held=is_held,
        valid_for_updates=valid_for_updates,
        valid_until_env_step=until_env_step,
        unknown_fields=request.unknown_fields,
    )
    silent = None if answer.unknown_fields else {"unknown_fields"}
    return answer.model_dump_json(exclude=silent).encode()


def is_without_return(report: Report, returns: ReturnSetting) -> bool:
    """Whether a report brings no number of the kind that the study's return is made of.

    One that was left out because it was not finite has been brought.
    """
    field = {"phase_return": "phase_return", "custom": "custom_return"}.get(
        returns.kind, "episode_returns"
    )
    if report.dropped_returns.get(field, 0):  # type: ignore[call-overload]  # one of its names
        return False
    return getattr(report, field) in (None, [])


REPORTS_WITHOUT_EPISODE = 10
"""So many reports of a job may bring no episode's return: the first may take long."""
_FIELD_OF = {"phase_return": "phase_return", "custom": "custom_return"}


def field_of(returns: ReturnSetting) -> str:
    """The field of a report that the study's return is made of."""
    return _FIELD_OF.get(returns.kind, "episode_returns")


def brought_by(report: Report) -> list[str]:
    """The fields of a report in which there are returns, or were before the client dropped them."""
    given = {
        "episode_returns": bool(report.episode_returns),
        "phase_return": report.phase_return is not None,
        "custom_return": report.custom_return is not None,
    }
    return [name for name, there in given.items() if there or name in report.dropped_returns]


def note_of(job: JobState, report: Report, returns: ReturnSetting) -> str | None:
    """Count a report that brings no return, and say what its sender may not have meant.

    Args:
        job: the reporting job.
        report: about to be applied.
        returns: the study's.

    Returns:
        A line for its receipt; None where there is nothing to say.
    """
    wanted, brought = field_of(returns), brought_by(report)
    if wanted in brought:
        return None
    job.counts.without_return += 1
    is_late = job.last_return is None and job.counts.without_return >= REPORTS_WITHOUT_EPISODE
    if wanted == "episode_returns" and not is_late:
        return None  # episodes may be longer than environment phases
    return (
        f"the study's return is {returns.kind!r}, for which {wanted} is expected; got "
        f"{', '.join(brought) or 'no return'}: nothing is learned from it"
    )
