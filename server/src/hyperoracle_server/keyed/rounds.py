"""Training rounds: how a new encoder version comes about beside serving.

For a layout that has new hyper-states a round trains in a child process, encodes every remembered
hyper-state anew (old keys would not be comparable with new ones), builds the memory on the new
keys, and swaps both in under the study's lock, durably in one transaction.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sqlalchemy import select

from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.keyed.agent import EntryStore, KeyedAgent, Recollection
from hyperoracle_server.keyed.encoder.serving import ServedEncoder
from hyperoracle_server.keyed.encoder.training import TrainingReport
from hyperoracle_server.keyed.encoder.training_process import EncoderTrainingError, TrainingProcess
from hyperoracle_server.ledger import schema as t
from hyperoracle_server.ledger.statements import Change
from hyperoracle_server.strategies.base import BackgroundWork
from hyperoracle_server.telemetry.failpoints import failpoint
from hyperoracle_server.telemetry.logs import about

if TYPE_CHECKING:
    import threading

    from hyperoracle_server.keyed.encoder.state import EncoderState
    from hyperoracle_server.oracle.oracle import Oracle
    from hyperoracle_server.oracle.study import StudyRuntime

log = logging.getLogger(__name__)

CHUNK = 256
"""Hyper-states read and encoded at a time; between chunks other threads run."""

MOST_OF_A_CORE = 0.1
"""Share of one core that training a layout's encoder may take on average."""

KEPT_VERSIONS = 2
"""Encoder versions kept in the ledger per layout."""


class _Due(NamedTuple):
    study: StudyRuntime
    agent: KeyedAgent[Any]
    recollection: Recollection[Any]
    newest_sample: int


class EncoderRounds(BackgroundWork):
    """Owns the training process and knows which encoder is due. One caller at a time.

    Args:
        oracle: whose studies to look after.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._process = TrainingProcess()
        self._closed = False
        self._rest_until: dict[tuple[int, str], float] = {}  # on the monotonic clock

    def close(self) -> None:
        """Stop the training process; a round under way is given up. Thread-safe."""
        self._closed = True
        self._process.close()

    def run(self, studies: Sequence[StudyRuntime], stop: threading.Event) -> None:
        """Train and publish every encoder of these studies that is due."""
        del stop  # `close` ends what is under way
        self._run_due(studies)

    def run_due(self) -> int:
        """Train and publish every encoder that is due; returns how many were published."""
        return self._run_due([s for s in self._oracle.studies() if s.agent.needs_hyper_states])

    def _run_due(self, studies: Sequence[StudyRuntime]) -> int:
        published = 0
        numbers = {study.number for study in studies}
        self._rest_until = {k: until for k, until in self._rest_until.items() if k[0] in numbers}
        for study in studies:
            for due in self._due(study):
                if self._closed:
                    return published
                began = time.perf_counter()
                try:
                    published += self._round(due)
                except (EncoderTrainingError, RequestRefused) as error:
                    if self._closed:
                        return published
                    log.warning("encoder round given up", extra=about(study=study.name, why=error))
                    self._give_up(due)
                except Exception:  # a bug that one study meets is not to keep others waiting
                    log.exception("encoder round met a bug", extra=about(study=study.name))
                    self._give_up(due)
                seconds = time.perf_counter() - began
                self._oracle.observer.worked("encoder round", study.name, seconds)
        return published

    def _give_up(self, due: _Due) -> None:
        """Let it rest; serving goes on with the version that is published."""
        self._oracle.observer.encoder_round("failed", None)
        self._rest(due, 0.0)

    def _due(self, study: StudyRuntime) -> list[_Due]:
        agent: Any = study.agent  # a KeyedAgent: no other asks for rounds
        due = []
        setting = agent.strategy.encoder
        now = self._oracle.clock.monotonic()
        with study.locked_soon() as is_held:
            for signature, recollection in agent.recollections.items() if is_held else ():
                samples = study.samples.of(signature) or [0]
                rested = now >= self._rest_until.get((study.number, signature), 0.0)
                if len(samples) >= setting.minimum_samples and rested:
                    newest = samples[-1]
                    if newest > recollection.samples_through:
                        due.append(_Due(study, agent, recollection, newest))
        return due

    def _round(self, due: _Due) -> bool:
        study, recollection = due.study, due.recollection
        setting = due.agent.strategy.encoder
        samples = self._samples(due, setting.replay)
        if not len(samples):
            return False  # the study was deleted
        seed = study.seed + recollection.state.version
        state, report = self._process.train(
            recollection.state, samples, seed, setting.gradient_updates, setting.batch_size
        )
        self._rest(due, report.cpu_seconds)
        if not report.accepted:
            why = report.message
            log.warning("encoder round not accepted", extra=about(study=study.name, why=why))
            self._oracle.observer.encoder_round("not_accepted", None)
            return False
        encoder = ServedEncoder(state)
        with study.lock:
            live = recollection.memory.entries()
            proposals = [study.entry_proposals[i] for i in live.ids.tolist()]
        self._oracle.ledger.writer.flush()  # the hyper-states of the newest must be readable
        keys = self._encode(encoder, recollection, proposals)
        kept = live[len(live) - len(keys) :]
        memory = recollection.memory.rekeyed(replace(kept, keys=keys))
        memory.build_index()
        failpoint("before_encoder_publish")
        return self._publish(due, state, report, encoder, memory)

    def _rest(self, due: _Due, cpu_seconds: float) -> None:
        """Let a layout rest after a round, the longer the more the round cost."""
        least = due.agent.strategy.encoder.publish_seconds
        rest = max(least, cpu_seconds / MOST_OF_A_CORE) if least > 0 else 0.0
        key = (due.study.number, due.recollection.layout.signature)
        self._rest_until[key] = self._oracle.clock.monotonic() + rest

    def _samples(self, due: _Due, limit: int) -> np.ndarray:
        """The newest hyper-states of a layout, oldest first, shape (samples, features)."""
        h = t.hyper_states.c
        layout = due.recollection.layout
        query = (
            select(h.features)
            .where(h.study_id == due.study.number, h.layout_signature == layout.signature)
            .where(h.proposal_id <= due.newest_sample)
            .order_by(h.proposal_id.desc())
            .limit(limit)
        )
        self._oracle.ledger.writer.flush()
        with self._oracle.ledger.reading() as connection:
            blobs = list(connection.execute(query).scalars())
        samples = np.frombuffer(b"".join(reversed(blobs)), layout.dtype)
        return samples.reshape(len(blobs), layout.feature_count)

    def _encode(
        self, encoder: ServedEncoder, recollection: Recollection[Any], proposals: list[int]
    ) -> np.ndarray:
        """Keys of the hyper-states of entries' proposals, the earliest entry first.

        Entries are evicted in this order and their hyper-states then deleted, also while this
        reads: what stands before one that is gone has been evicted as well, and is left out.

        Returns:
            Shape (kept, key_size): of all after the last that is gone.
        """
        kept_from = 0
        keys = np.empty((len(proposals), encoder.key_size), np.float32)
        h = t.hyper_states.c
        dtype = recollection.layout.dtype
        for start in range(0, len(proposals), CHUNK):
            chunk = proposals[start : start + CHUNK]
            query = select(h.proposal_id, h.features).where(h.proposal_id.in_(chunk))
            with self._oracle.ledger.reading() as connection:
                blobs = {row.proposal_id: row.features for row in connection.execute(query)}
            gone = [start + i + 1 for i, proposal in enumerate(chunk) if proposal not in blobs]
            kept_from = max([kept_from, *gone])
            first = max(start, kept_from)
            kept = chunk[first - start :]
            if kept:
                features = np.frombuffer(b"".join(blobs[p] for p in kept), dtype)
                keys[first : first + len(kept)] = encoder.encode_batch(
                    features.reshape(len(kept), -1)
                )
        return keys[kept_from:]

    def _publish(
        self, due: _Due, state: EncoderState, report: TrainingReport, encoder: ServedEncoder,
        memory: EntryStore,
    ) -> bool:  # fmt: skip
        """Swap in encoder and memory, with what was written since, durably.

        Returns:
            Whether that was done: not where the study was deleted, or loaded again, meanwhile.
        """
        study, old = due.study, due.recollection
        signature = old.layout.signature
        with study.lock:
            writer = self._oracle.ledger.writer
            is_live = due.agent.recollections.get(signature) is old and self._oracle.has(study)
            if not is_live or study.epoch != writer.epoch:
                return False
            late = old.memory.entries_after(memory.newest_id)
            proposals = [study.entry_proposals[i] for i in late.ids.tolist()]
            writer.flush()  # the late hyper-states must be readable
            memory.take_over(old.memory, self._encode(encoder, old, proposals))
            fresh = Recollection(
                old.layout, state, encoder, memory, old.revision + 1, due.newest_sample
            )
            due.agent.recollections[signature] = fresh
            entries = memory.entries()
            changes = [_version_row(study.number, signature, fresh, report, self._oracle)]
            for entry_id, key in zip(entries.ids.tolist(), entries.keys, strict=True):
                row = {"entry_id": entry_id, "encoder_version": state.version,
                       "key": key.astype(np.float32).tobytes()}  # fmt: skip
                changes.append(Change("insert_memory_key", row))
                below = {"where_entry_id": entry_id, "below": state.version}
                changes.append(Change("delete_old_memory_key", below))
            where = {"where_study_id": study.number, "where_layout_signature": signature}
            below = {**where, "below": state.version - KEPT_VERSIONS + 1}
            changes.append(Change("delete_old_encoder_versions", below))
            durable = writer.submit_durably(changes, study.epoch)
        durable.result()
        failpoint("after_encoder_publish")
        self._oracle.observer.encoder_round("published", report.last_loss)
        fields = about(study=study.name, version=state.version, cpu_seconds=report.cpu_seconds)
        log.info("encoder version published", extra=fields)
        return True


def _version_row(
    study_id: int, signature: str, fresh: Recollection[Any], report: TrainingReport, oracle: Oracle
) -> Change:
    return Change(
        "insert_encoder_version",
        {
            "study_id": study_id,
            "layout_signature": signature,
            "version": fresh.state.version,
            "state": fresh.state.to_bytes(),
            "report": json.dumps(asdict(report)),
            "samples_through": fresh.samples_through,
            "published_at": oracle.clock.now(),
        },
    )
