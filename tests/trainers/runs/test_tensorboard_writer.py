from __future__ import annotations

import errno
import io
import warnings
from pathlib import Path
from typing import Any

import pytest
from tensorboard.summary.writer.record_writer import RecordWriter
from trainers.short_runs import small_trainer

from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.runs.run import run
from hyperoracle_trainers.runs.trackers import TensorBoardWriter, scalars_of


def events_of(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TensorBoard's own imports
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "acktr"])
def test_tensorboard_reads_what_the_phases_say(algorithm: str, tmp_path: Path) -> None:
    trainer = small_trainer(algorithm, phases=12)
    phases: list[Phase] = []
    folder = tmp_path / "new" / "folder"
    summary = run(
        trainer, observers=[phases.append], writers=[TensorBoardWriter(folder, trainer.settings)]
    )
    events = events_of(folder)
    expected: dict[str, list[tuple[int, float]]] = {}
    for phase in phases:
        for tag, value in scalars_of([phase]).items():
            expected.setdefault(tag, []).append((phase.env_step, pytest.approx(value, rel=1e-6)))
    assert len(expected["losses/value_loss"]) == 12
    assert 0 < len(expected["returns/episode"]) < 12, "phases without a finished episode are gaps"
    for tag, points in expected.items():
        assert [(each.step, each.value) for each in events.Scalars(tag)] == points, tag
    (final,) = events.Scalars("summary/final_return")
    assert (final.step, final.value) == (phases[-1].env_step, pytest.approx(summary.final_return))


def _hparams_sessions(events: Any) -> tuple[dict[str, Any], bool]:
    """Return the settings on the page of hyperparameters, and whether the run ended well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorboard.plugins.hparams import api_pb2, metadata
    tags = events.summary_metadata
    start = metadata.parse_session_start_info_plugin_data(
        tags[metadata.SESSION_START_INFO_TAG].plugin_data.content
    )
    settings = {
        name: getattr(each, each.WhichOneof("kind")) for name, each in start.hparams.items()
    }
    if metadata.SESSION_END_INFO_TAG not in tags:
        return settings, False
    end = metadata.parse_session_end_info_plugin_data(
        tags[metadata.SESSION_END_INFO_TAG].plugin_data.content
    )
    return settings, end.status == api_pb2.STATUS_SUCCESS


@pytest.mark.parametrize("status", ["completed", "interrupted"])
def test_the_page_of_hyperparameters_shows_the_settings_and_how_the_run_ended(
    status: str, tmp_path: Path
) -> None:
    trainer = small_trainer("ppo")
    writer = TensorBoardWriter(tmp_path, trainer.settings)
    writer.end({"status": status, "final_return": None})
    writer.close()
    settings, ended_well = _hparams_sessions(events_of(tmp_path))
    assert settings["env_id"] == "CartPole-v1"
    assert settings["learning_rate"] == trainer.settings.learning_rate
    assert settings["hidden_sizes"] == "(64, 64)"
    assert ended_well is (status == "completed")


def test_a_run_that_goes_on_replaces_what_was_written_after_its_checkpoint(
    tmp_path: Path,
) -> None:
    trainer = small_trainer("ppo", phases=6)
    settings = trainer.settings
    phases = list(trainer.train())
    killed, resumed = TensorBoardWriter(tmp_path, settings), phases[:4]
    for phase in resumed:
        killed.record(phase)
    killed.close()
    checkpoint = phases[1].env_step
    writer = TensorBoardWriter(tmp_path, settings, checkpoint)
    for phase in phases[2:]:
        writer.record(phase)
    writer.close()
    events = events_of(tmp_path)
    steps = [each.step for each in events.Scalars("losses/value_loss")]
    assert steps == [phase.env_step for phase in phases]
    first = phases[2]
    seconds = first.collect_seconds + first.update_seconds + first.source_seconds
    speeds = {each.step: each.value for each in events.Scalars("time/env_steps_per_second")}
    assert speeds[first.env_step] == pytest.approx((first.env_step - checkpoint) / seconds)


def test_points_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    trainer = small_trainer("a2c")
    writer = TensorBoardWriter(tmp_path, trainer.settings)
    for count, phase in enumerate(trainer.train(), start=1):
        writer.record(phase)
        assert len(events_of(tmp_path).Scalars("losses/value_loss")) == count
    writer.close()


class FullDisk(io.RawIOBase):
    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_an_error_of_the_call_that_meets_it(tmp_path: Path) -> None:
    trainer = small_trainer("a2c")
    writer = TensorBoardWriter(tmp_path, trainer.settings)
    writer._records = RecordWriter(FullDisk())
    with pytest.raises(OSError, match="No space left"):
        writer.record(next(trainer.train()))
    writer.close()
