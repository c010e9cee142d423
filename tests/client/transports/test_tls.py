"""https: the real server with a certificate of a test's own authority."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from client.conftest import SPACE
from support.oracle_process import OracleProcess

from hyperoracle_client import Oracle, OracleMisconfigured, OracleUnreachable

PATIENT = {"on_error": "raise", "propose_deadline_seconds": 5.0, "start_deadline_seconds": 30.0}


class Served(NamedTuple):
    """An oracle on https, and the authority that vouches for it."""

    url: str
    bundle: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("https")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    bundle, chain, key = folder / "authority.pem", folder / "chain.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(str(bundle))
    key.touch(stat.S_IRUSR | stat.S_IWUSR)
    certificate.private_key_pem.write_to_path(str(key))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(chain), append=True)
    with OracleProcess(folder, tls_certificate=chain, tls_key=key) as process:
        yield Served(process.url, bundle)


@pytest.mark.slow
def test_a_job_runs_over_https_with_the_authoritys_bundle(
    served: Served, connect: Callable[..., Oracle], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served.url.startswith("https://127.0.0.1:")
    monkeypatch.setenv("HYPERORACLE_CA_BUNDLE", str(served.bundle))
    oracle = connect(served.url, **PATIENT)
    job = oracle.start_job(study="s", space=SPACE, strategy="random", total_env_steps=9)
    for update in range(3):
        assert job.propose(env_step=update).source == "oracle"
        job.report([1.0], env_step=update + 1)
    assert job.finish().reports_sent == 3


def test_an_oracle_that_nobody_vouches_for_gets_no_job_and_no_token(
    served: Served, connect: Callable[..., Oracle]
) -> None:
    oracle = connect(served.url, **PATIENT | {"start_deadline_seconds": 1.0})
    with pytest.raises(OracleUnreachable, match="certificate verify failed"):
        oracle.start_job(study="s", space=SPACE, strategy="random", total_env_steps=9)


def test_an_oracle_with_the_certificate_of_another_host_is_refused(
    served: Served, connect: Callable[..., Oracle]
) -> None:
    oracle = connect(
        served.url.replace("127.0.0.1", "localhost"),
        **PATIENT | {"start_deadline_seconds": 1.0, "ca_bundle": served.bundle},
    )
    with pytest.raises(OracleUnreachable, match=r"[Hh]ostname mismatch"):
        oracle.start_job(study="s", space=SPACE, strategy="random", total_env_steps=9)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_bundle_that_is_none_is_one_line(
    tmp_path: Path, connect: Callable[..., Oracle], content: str | None
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(OracleMisconfigured, match="ca_bundle") as caught:
        connect("https://127.0.0.1:9", ca_bundle=bundle)
    assert os.linesep not in str(caught.value)
