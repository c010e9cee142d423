from __future__ import annotations

from pathlib import Path

import pytest

from hyperoracle_client import OracleMisconfigured
from hyperoracle_client.settings import ClientSettings, load_settings


def test_every_setting_is_documented() -> None:
    undocumented = [n for n, f in ClientSettings.model_fields.items() if not f.description]
    assert not undocumented


def test_an_argument_beats_the_environment_beats_files_beats_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load_settings().url == "http://127.0.0.1:8080"
    user_file = tmp_path / "config" / "hyperoracle" / "client.toml"
    user_file.parent.mkdir(parents=True)
    user_file.write_text('url = "http://user"\ntoken = "of the user"\n')
    assert load_settings().url == "http://user"
    Path("hyperoracle.toml").write_text('url = "http://project"')
    assert load_settings().url == "http://project"
    assert load_settings().token == "of the user"
    monkeypatch.setenv("HYPERORACLE_URL", "http://environment")
    assert load_settings().url == "http://environment"
    assert load_settings({"url": "http://argument", "token": None}).url == "http://argument"
    assert load_settings({"url": None}).url == "http://environment"


def test_numbers_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERORACLE_PROPOSE_DEADLINE_SECONDS", "0.2")
    assert load_settings().propose_deadline_seconds == 0.2


def test_the_spool_lies_in_the_users_state_directory(tmp_path: Path) -> None:
    assert load_settings().spool_directory == tmp_path / "state" / "hyperoracle" / "spool"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"url": "oracle:8080"}, "expected http://"),
        ({"on_error": "ignore"}, "on_error"),
        ({"propose_deadline_seconds": 0}, "propose_deadline_seconds"),
        ({"colour": "red"}, "colour"),
        ({"url": "http://me:my-secret@oracle"}, "without a user or password"),
        ({"url": "https://me@oracle:1/x"}, "without a user or password"),
        ({"token": "two\nlines"}, "token of printable ASCII"),
        ({"token": "ho_ü"}, "token of printable ASCII"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line_with_its_source(arguments: dict, told: str) -> None:
    with pytest.raises(OracleMisconfigured, match=told) as caught:
        load_settings(arguments)
    assert "\n" not in str(caught.value)
    assert "the call" in str(caught.value)
    assert "my-secret" not in str(caught.value)


def test_a_token_is_trimmed_and_shown_nowhere() -> None:
    settings = load_settings({"token": "  ho_secret\n"})
    assert settings.token == "ho_secret"
    assert "secret" not in repr(settings)
    assert load_settings({"token": ""}).token is None


def test_a_wrong_value_in_the_environment_is_blamed_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HYPERORACLE_QUEUE_CAPACITY", "many")
    with pytest.raises(OracleMisconfigured, match="from the environment: HYPERORACLE_QUEUE_CAP"):
        load_settings()


@pytest.mark.parametrize("name", sorted(ClientSettings.model_fields))
@pytest.mark.parametrize("value", ["nan", "-inf", "-1", "\x01", "1e999", "{}", "~nobody-at-all/x"])
def test_any_setting_of_the_environment_is_taken_or_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    variable = f"HYPERORACLE_{name.upper()}"
    monkeypatch.setenv(variable, value)
    try:
        setting = getattr(load_settings(), name)
    except OracleMisconfigured as error:
        told = str(error)
    else:
        assert not isinstance(setting, float)
        return
    assert variable in told
    assert "\n" not in told


def test_a_file_that_is_no_toml_is_named() -> None:
    Path("hyperoracle.toml").write_text("url: x")
    with pytest.raises(OracleMisconfigured, match=r"hyperoracle\.toml"):
        load_settings()
