"""What is answered to a request of a job, as it is sent and kept: bytes.

Fields that say something only now and then are there only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperoracle_protocol.jobs import Proposal, Receipt

if TYPE_CHECKING:
    from hyperoracle_protocol.jobs import Report
    from hyperoracle_protocol.studies import ReturnSetting
    from hyperoracle_server.oracle.credit import Settlement


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
        note=note,
        unknown_fields=report.unknown_fields,
        return_missing=is_without_return(report, returns),
    )
    silent = {n for n in ("note", "unknown_fields", "return_missing") if not getattr(answer, n)}
    return answer.model_dump_json(exclude=silent).encode()


def proposal(answer: Proposal) -> bytes:
    """A proposal."""
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
