"""What a job does with an oracle that has taken it: decisions in force, held, prefetched, new."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from hyperoracle_client.errors import (
    DeadlineMissed,
    OracleError,
    OracleRefused,
    OracleUnreachable,
    one_line,
    refusal,
)
from hyperoracle_client.hyper_state import Compressor
from hyperoracle_client.hyper_state.tensors import TensorSource
from hyperoracle_client.job.circuit import Circuit
from hyperoracle_client.job.decision import HeldProposal, Hyperparameters, ValueChecker
from hyperoracle_client.job.delivery.sequences import SequenceBook
from hyperoracle_client.job.stats import Counts
from hyperoracle_client.transports import Channel, Request
from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE, encode_frame
from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.jobs import Proposal, StartedJob
from hyperoracle_protocol.space import Hyperparameter

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


_HEADERS = {"content-type": BINARY_MEDIA_TYPE}
_ENCODER = json.JSONEncoder(separators=(",", ":"))


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
        body = encode_frame(_ENCODER.encode(fields).encode(), dtype, numbers)
        self._sequence = sequence
        self._channel.begin(Request("POST", self._path, _HEADERS, body), deadline)

    def complete(self, deadline: float) -> HeldProposal:
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

    def decision(self, proposal: Proposal, uses: int = 0) -> HeldProposal:
        """The decision that a proposal is, used so often already.

        Raises:
            OracleUnreachable: its values do not fit the space.
        """
        return HeldProposal(proposal, self._checker.checked(proposal.hyperparameters), uses)


logger = logging.getLogger("hyperoracle_client")

_PROPOSALS_WITHOUT_GRADIENTS = 3


class NoAnswer(Exception):
    """The oracle need not be asked to know that there is no answer; the message says why."""


class Session:
    """A joined job's proposals. Used by the training thread only, but for `withdraw`.

    Attributes:
        started: what the oracle said when it took the job.
        book: hands out sequences, to the job's reports too.
    """

    def __init__(
        self,
        started: StartedJob,
        asker: Asker,
        circuit: Circuit,
        book: SequenceBook,
        counts: Counts,
        *,
        source: TensorSource,
        compressor: Compressor | None,
        total_env_steps: int,
        prefetch: bool,
        on_contact: Callable[[], None],
        on_circuit_open: Callable[[], None],
    ) -> None:
        """Begin a session.

        Args:
            started: the oracle's answer to the job's start.
            asker: makes the calls.
            circuit: says whether calls may be made.
            book: keeps the sequences.
            counts: counted up here.
            source: the job's tensors.
            compressor: makes hyper-states; None where the study wants none.
            total_env_steps: the job's planned length.
            prefetch: whether each update uses the answer to the previous update's question.
            on_contact: called after each answer.
            on_circuit_open: called after each failure, once the circuit is open.
        """
        self.started = started
        self.book = book
        self._asker = asker
        self._circuit = circuit
        self._counts = counts
        self._source = source
        self._compressor = compressor
        self._total_env_steps = total_env_steps
        self._prefetch = prefetch
        self._on_contact = on_contact
        self._on_circuit_open = on_circuit_open
        self._decision: HeldProposal | None = None
        self._is_prefetched = False
        self._is_withdrawn = False
        self._asked_at = 0.0
        layout = started.layout
        self._has_seen_gradients = layout.kind == "sketch" and layout.orders == 0  # wants none

    def withdraw(self) -> None:
        """Let the next update ask, although the decision in force would still hold."""
        self._is_withdrawn = True

    def decide(
        self, metadata: Mapping[str, Any], params: Any, grads: Any, deadline: float
    ) -> Hyperparameters:
        """The hyperparameters for one update: of a held decision, a prefetched or a new one.

        Args:
            metadata: the protocol's `ProposeMetadata` but for its sequences and signature.
            params: see `Job.propose`.
            grads: see `Job.propose`.
            deadline: on the monotonic clock.

        Raises:
            NoAnswer: the circuit is open, or the hyper-state is not finite.
            OracleError: the call failed; its sequence is marked as not applied.
        """
        self._asked_at = time.monotonic()
        if self._is_withdrawn:
            self._is_withdrawn, self._decision = False, None
        if self._decision is not None and self._decision.is_in_force(metadata["env_step"]):
            self._counts.held += 1
        else:
            if self._circuit.is_open:
                raise NoAnswer("the circuit is open")
            self._decision = self._ask(metadata, params, grads, deadline)
            self._counts.proposals += 1
        values = self._decision.use()
        if self._prefetch and self._decision.ends_with_this_update:
            self._begin_prefetch(metadata, params, grads, deadline)
        return values

    def _ask(
        self, metadata: Mapping[str, Any], params: Any, grads: Any, deadline: float
    ) -> HeldProposal:
        """The answer to the prefetched question, or to a new one."""
        if self._is_prefetched:
            return self._complete(deadline)
        self._begin(metadata, params, grads, deadline)
        try:
            return self._complete(deadline)
        except OracleRefused as error:
            if error.code is not ErrorCode.SEQUENCE_CONFLICT:
                raise
        # A resumed job that repeats its earlier process's requests has come to one that differs.
        self._begin(metadata, params, grads, deadline)
        return self._complete(deadline)

    def used_instead(self, values: Mapping[str, Any]) -> None:
        """The update that was decided last used these values instead of the decision's."""
        assert self._decision is not None
        self.book.used_instead(self._decision.proposal.sequence, values)

    def state(self) -> dict[str, Any]:
        """What `restore` takes: the book, the compressor's memory and the decision in force."""
        decision = self._decision
        return {
            "book": self.book.state(),
            "compressor": None if self._compressor is None else self._compressor.state(),
            "decision": None
            if decision is None
            else {"proposal": decision.proposal.model_dump(mode="json"), "uses": decision.uses},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; the book is given to the session when it begins."""
        if self._compressor is not None:
            self._compressor.restore(state["compressor"])
        if (decision := state["decision"]) is not None:
            proposal = Proposal.model_validate(decision["proposal"])
            self._decision = self._asker.decision(proposal, uses=decision["uses"])

    def _begin(self, metadata: Mapping[str, Any], params: Any, grads: Any, deadline: float) -> None:
        """Compress and send a proposal's request."""
        features = self._features(metadata, params, grads)
        sequence, not_applied = self.book.issue()
        fields = {**metadata, "not_applied": not_applied}
        try:
            self._asker.begin(sequence, fields, features, deadline)
        except OracleError as error:
            self._failed(error)
            raise

    def _complete(self, deadline: float) -> HeldProposal:
        """Receive the answer to the request that was begun."""
        self._is_prefetched = False
        try:
            decision = self._asker.complete(deadline)
        except OracleError as error:
            self._failed(error)
            raise
        self.book.settle(applied=True)
        self._circuit.succeeded()
        self._on_contact()
        return decision

    def _begin_prefetch(
        self, metadata: Mapping[str, Any], params: Any, grads: Any, deadline: float
    ) -> None:
        """Ask for the next update already now; a failure shows at the next update."""
        of_the_next = {**metadata, "update_step": metadata["update_step"] + 1}
        try:
            self._begin(of_the_next, params, grads, deadline)
            self._is_prefetched = True
        except (OracleError, NoAnswer) as error:
            self._counts.last_error = str(error)

    def _features(
        self, metadata: Mapping[str, Any], params: Any, grads: Any
    ) -> npt.NDArray[np.generic] | None:
        if self._compressor is None:
            return None
        parameters, gradients = self._source.read(params, grads)
        features = self._compressor.compress(
            parameters,
            gradients,
            metadata["signals"],
            min(1.0, metadata["env_step"] / self._total_env_steps),
        )
        if features is None:
            self._counts.non_finite_hyper_states += 1
            why = self._source.first_not_finite(parameters, gradients)
            if self._counts.non_finite_hyper_states == 1:
                logger.warning(
                    "%s: updates use the defaults while that is so (later ones are only counted)",
                    why,
                )
            raise NoAnswer(why)
        if not self._has_seen_gradients:
            self._look_for(gradients)
        return features

    def _look_for(self, gradients: list[Any]) -> None:
        """Say so once where there never is a gradient; before the first update there is none."""
        if any(gradient is not None and bool(gradient.any()) for gradient in gradients):
            self._has_seen_gradients = True
            return
        self._counts.hyper_states_without_gradients += 1
        if self._counts.hyper_states_without_gradients == _PROPOSALS_WITHOUT_GRADIENTS:
            logger.warning(
                "%d proposals in a row found no gradient, and the oracle decides without: call "
                "propose before the gradients are zeroed, or give it grads",
                _PROPOSALS_WITHOUT_GRADIENTS,
            )

    def _failed(self, error: OracleError) -> None:
        self.book.settle(applied=False)
        if isinstance(error, OracleRefused) and error.code is ErrorCode.SEQUENCE_CONFLICT:
            self.book.leave_behind(self.started.last_sequence)
            return
        if isinstance(error, DeadlineMissed):
            self._counts.late += 1
        if self._circuit.failed(str(error), time.monotonic() - self._asked_at):
            self._on_circuit_open()
