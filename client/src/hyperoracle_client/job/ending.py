"""The end of a job: deliver what waits, tell the oracle, let go of thread and connections."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from hyperoracle_client.errors import OracleError, OracleUnreachable
from hyperoracle_client.job.delivery.report_sender import ReportSender
from hyperoracle_client.job.tasks import Background, JoinTask
from hyperoracle_client.transports import Channel
from hyperoracle_client.transports.endpoint import Endpoint
from hyperoracle_protocol.jobs import FinishJob

logger = logging.getLogger("hyperoracle_client")


class Ending:
    """Ends one job, once."""

    def __init__(
        self,
        endpoint: Endpoint,
        job_key: str,
        join: JoinTask,
        sender: ReportSender,
        background: Background,
        channels: Sequence[Channel],
    ) -> None:
        self._endpoint = endpoint
        self._job_key = job_key
        self._join = join
        self._sender = sender
        self._background = background
        self._channels = channels

    def run(
        self, job_id: Callable[[], str | None], finish: Callable[[], FinishJob], seconds: float
    ) -> str | None:
        """Bring everything to its end.

        An interrupt cuts it short: what was not delivered then still goes to disk.

        Args:
            job_id: the job's id once it has joined, which may be meanwhile.
            finish: what the oracle is told, once the reports are delivered: they may bring notices.
            seconds: for delivering; telling gets half a second at least.

        Returns:
            Why the oracle was not told, if it should have been.

        Raises:
            OracleUnreachable: reports are left, only with `on_error="raise"`.
        """
        deadline = time.monotonic() + seconds
        trouble = None
        try:
            self._join.hurry()
            self._sender.hurry()
            self._background.wake()
            delivered = self._sender.wait_until_empty(seconds)
            joined = job_id()
            if delivered and joined is not None:
                trouble = self._tell(joined, finish(), deadline)
        except BaseException:
            self._let_go(0.5)
            if self._sender.pending:
                logger.warning("%s", self._sender.what_is_left(self._job_key))
            raise
        self._let_go(max(0.5, deadline - time.monotonic()))
        if self._sender.pending:
            left = self._sender.what_is_left(self._job_key)
            if self._endpoint.settings.on_error == "raise":
                raise OracleUnreachable(left)
            logger.warning("%s", left)
        return trouble

    def _tell(self, job_id: str, finish: FinishJob, deadline: float) -> str | None:
        from hyperoracle_client.api import OracleApi  # takes 0.2 s with httpx: not at import

        try:
            with OracleApi.at(self._endpoint) as api:
                api.finish_job(job_id, finish, max(0.5, deadline - time.monotonic()))
        except OracleError as error:
            logger.warning("the oracle was not told that the job has finished: %s", error)
            return str(error)
        return None

    def _let_go(self, seconds: float) -> None:
        """End the thread, and keep on disk what was not delivered."""
        self._background.stop(seconds)
        for channel in self._channels:
            channel.close()
        self._sender.spill_rest()
