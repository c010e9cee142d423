"""The hot call: one proposal, asked for within a deadline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from hyperoracle_client.errors import OracleUnreachable, one_line, refusal
from hyperoracle_client.job.decision import Decision, ValueChecker
from hyperoracle_client.transports import Channel, Request
from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE, encode_frame
from hyperoracle_protocol.jobs import Proposal, StartedJob
from hyperoracle_protocol.space import Hyperparameter

_HEADERS = {"content-type": BINARY_MEDIA_TYPE}


class Asker:
    """Asks for a joined job's proposals, one at a time; may fetch an answer later than it asks.

    Args:
        channel: used by the training thread alone.
        started: the oracle's answer to the job's start.
        space: as the job itself defines it. The oracle's is equal, but may have come from one that
            wrote whole numbers otherwise (an earlier release, another language).
    """

    def __init__(
        self, channel: Channel, started: StartedJob, space: Mapping[str, Hyperparameter]
    ) -> None:
        self._channel = channel
        self._path = f"/v1/jobs/{started.job_id}/propose"
        self._checker = ValueChecker(space)
        self._dtype = started.layout.dtype
        self._signature = None if started.layout.kind == "none" else started.layout.signature
        self._sequence = 0

    def begin(
        self,
        sequence: int,
        metadata: Mapping[str, Any],
        features: npt.NDArray[np.generic] | None,
        deadline: float,
    ) -> None:
        """Send a request.

        Args:
            sequence: the proposal's.
            metadata: the other fields of the protocol's `ProposeMetadata`.
            features: the hyper-state in the layout's dtype, None where the layout is `none`.
            deadline: on the monotonic clock.

        Raises:
            OracleUnreachable: it could not be sent in time.
        """
        fields = {"sequence": sequence, **metadata}
        dtype, numbers = "none", b""
        if features is not None:
            fields["signature"] = self._signature
            dtype, numbers = self._dtype, features.tobytes()
        body = encode_frame(json.dumps(fields, separators=(",", ":")).encode(), dtype, numbers)
        self._sequence = sequence
        self._channel.begin(Request("POST", self._path, _HEADERS, body), deadline)

    def complete(self, deadline: float) -> Decision:
        """The answer to the request that was begun.

        Raises:
            OracleUnreachable: none in time, or one that makes no sense.
            OracleRefused: the oracle said no.
        """
        response = self._channel.complete(deadline)
        if response.status != 200:
            raise refusal(response.status, response.body)
        try:
            proposal = Proposal.model_validate_json(response.body)
        except ValidationError as error:
            self._channel.close()
            raise OracleUnreachable(
                f"the oracle's answer is no proposal: {one_line(error)}"
            ) from None
        if proposal.sequence != self._sequence:
            self._channel.close()
            raise OracleUnreachable(
                f"expected the answer to sequence {self._sequence}, got {proposal.sequence}"
            )
        return self.decision(proposal)

    def decision(self, proposal: Proposal, uses: int = 0) -> Decision:
        """The decision that a proposal is, used so often already.

        Raises:
            OracleUnreachable: its values do not fit the space.
        """
        return Decision(proposal, self._checker.checked(proposal.hyperparameters), uses)
