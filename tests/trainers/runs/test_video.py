from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from trainers.short_runs import small_trainer

from hyperoracle_client.cli import main
from hyperoracle_trainers.hyperparameters.arguments import ArgumentError
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.runs.evaluation import (
    VideoError,
    check_rendering,
    evaluate,
    record_video,
    video_file,
)


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.mark.filterwarnings("ignore")  # of pygame's import
def test_a_video_shows_the_first_episode_of_the_evaluation(tmp_path: Path) -> None:
    trainer = small_trainer("a2c")
    shown = trainer.policy, trainer.observation_normaliser, trainer.settings
    (evaluated,) = evaluate(*shown, episodes=1, seed=3)
    path = tmp_path / "new" / "episode.gif"
    assert record_video(path, *shown, seed=3) == evaluated
    assert [each.name for each in path.parent.iterdir()] == ["episode.gif"]
    with Image.open(path) as video:
        frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(video)]
        assert video.info["duration"] == 20, "ms: the environment shows 50 frames a second"
    # A frame for each of CartPole's env steps but the last; equal neighbours are stored once.
    assert 2 < len(frames) <= evaluated
    assert frames[0].shape == (400, 600, 3)
    assert not np.array_equal(frames[0], frames[-1])


@pytest.mark.filterwarnings("ignore")
def test_the_command_records_after_training_and_of_a_saved_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = ["train", "a2c", "CartPole-v1", "--total-env-steps", "64", "--evaluate", "0"]
    assert main([*run, "--out", "log", "--video", "one.gif"]) == 0
    assert main(["train", "--eval-only", "log", "--evaluate", "0", "--video", "two.gif"]) == 0
    assert Path("one.gif").read_bytes() == Path("two.gif").read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_video_is_encoded_as_mp4_in_the_pictures_own_size(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder = importlib.import_module("imageio_ffmpeg")
    trainer = small_trainer("a2c")
    shown = trainer.policy, trainer.observation_normaliser, trainer.settings
    path = tmp_path / "episode.mp4"
    env_steps = record_video(path, *shown, seed=3)  # CartPole: a reward of 1 for each
    assert [each.name for each in tmp_path.iterdir()] == ["episode.mp4"]
    assert "WARNING" not in capfd.readouterr().err
    frames = encoder.read_frames(str(path))
    facts = next(frames)
    assert (facts["size"], facts["fps"]) == ((600, 400), 50)
    assert len(list(frames)) == env_steps


def test_an_environment_without_pictures_gets_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoError, match="that can be rendered, got Terminating-v0"):
        check_rendering(default_settings("a2c", "Terminating-v0"))
    run = ["train", "a2c", "Terminating-v0", "--total-env-steps", "8", "--video", "x.gif"]
    assert main(run) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(Path().iterdir()) == [], "nothing was started"


def test_a_format_that_cannot_be_written_is_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match="imageio-ffmpeg"):
        video_file("x.mp4")
    with pytest.raises(ArgumentError, match=r"ends with \.gif or \.mp4"):
        video_file("x.avi")
    assert video_file("x.gif") == Path("x.gif")
    assert video_file(None) is None
