"""Which hyper-state a job is to send, and the encoder for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.errors import OracleError
from hyperoracle_server.keyed.agent import FreshEncoder, KeyedAgent
from hyperoracle_server.strategies.cost import CostLimits, check_cost

if TYPE_CHECKING:
    from hyperoracle_protocol.hyper_state import HyperStateLayout
    from hyperoracle_protocol.jobs import StartJob
    from hyperoracle_server.oracle.study import StudyRuntime


class Layouts:
    """Gives jobs their layouts. Thread-safe; no study need be locked.

    Args:
        limits: what a study may cost with all its layouts.
    """

    def __init__(self, limits: CostLimits) -> None:
        self._limits = limits
        self._encoder_lock = threading.Lock()  # one encoder is made at a time: it takes memory

    def of(self, study: StudyRuntime, start: StartJob) -> HyperStateLayout:
        """The hyper-state of a job; the study can bear it.

        Raises:
            OracleError: `invalid_request`, the tensors do not make a layout, or the study would
                cost too much.
        """
        try:
            layout = study.agent.layout_for(start.tensors, study.seed)
        except ValueError as error:
            raise OracleError(ErrorCode.INVALID_REQUEST, str(error)) from None
        known = dict(study.layouts)
        if layout.signature not in known:
            check_cost(study.definition, [*known.values(), layout], self._limits)
        return known.get(layout.signature, layout)

    def fresh_encoder(self, study: StudyRuntime, layout: HyperStateLayout) -> FreshEncoder | None:
        """An encoder for a layout that the study does not know yet; None where it needs none.

        It may take seconds.
        """
        agent = study.agent
        if not isinstance(agent, KeyedAgent) or layout.signature in agent.recollections:
            return None
        with self._encoder_lock:
            is_known = layout.signature in agent.recollections  # by a job that was before this one
            return None if is_known else agent.fresh_encoder(layout)
