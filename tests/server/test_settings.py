from __future__ import annotations

import pytest
from pydantic import ValidationError

from hyperoracle_server.settings import ServerSettings

SECRET = "0123456789abcdef0123456789abcdef"


def test_every_setting_is_documented():
    assert [n for n, f in ServerSettings.model_fields.items() if not f.description] == []


def test_an_argument_beats_the_environment_beats_the_default(monkeypatch):
    assert ServerSettings.load().rate_limit == 1000
    monkeypatch.setenv("HYPERORACLE_RATE_LIMIT", "5")
    assert ServerSettings.load(rate_limit=None).rate_limit == 5
    assert ServerSettings.load(rate_limit=7).rate_limit == 7


def test_the_administrators_token_is_read_from_the_environment_or_a_file(tmp_path):
    assert ServerSettings().read_admin_token() is None
    assert ServerSettings(admin_token=f" {SECRET}\n").read_admin_token() == SECRET
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    assert ServerSettings(admin_token_file=path).read_admin_token() == SECRET
    with pytest.raises(ValidationError, match="not both"):
        ServerSettings(admin_token=SECRET, admin_token_file=path)


@pytest.mark.parametrize("token", ["short", "x" * 23, "\u00fc" * 30, "a\n" * 20])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused_without_repeating_it(
    token, tmp_path
):
    with pytest.raises(ValidationError, match="openssl rand -hex 32") as caught:
        ServerSettings(admin_token=token)
    assert token not in str(caught.value)
    path = tmp_path / "secret"
    path.write_text(token)
    with pytest.raises(ValueError, match="secret: expected a token") as caught:
        ServerSettings(admin_token_file=path).read_admin_token()
    assert token not in str(caught.value)


def test_settings_can_be_printed_without_their_secret():
    assert SECRET not in repr(ServerSettings(admin_token=SECRET))


def test_https_takes_a_certificate_and_its_key():
    with pytest.raises(ValidationError, match="both tls_certificate and tls_key"):
        ServerSettings(tls_key="key.pem")
