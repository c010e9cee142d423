"""The oracle, as a training program sees it."""

from __future__ import annotations

import atexit
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from hyperoracle_client.errors import OracleMisconfigured, one_line
from hyperoracle_client.hyper_state.tensors import TensorSource
from hyperoracle_client.job.job import Job
from hyperoracle_client.settings import load_settings, say_if_temporary
from hyperoracle_client.transports.endpoint import Endpoint
from hyperoracle_client.transports.forks import call_at_exit
from hyperoracle_protocol.base import Definition, Name
from hyperoracle_protocol.jobs import Role, StartJob
from hyperoracle_protocol.space import Hyperparameter, search_space_adapter
from hyperoracle_protocol.strategies import Strategy
from hyperoracle_protocol.studies import HoldSetting, ReturnSetting, StudyDefinition

CLOSE_SECONDS = 2.0
"""Jobs that were not finished get so long to deliver their reports when the program ends."""

_name: TypeAdapter[str] = TypeAdapter(Name)


class Oracle:
    """A remote or an embedded oracle.

    Example:
        oracle = Oracle("http://oracle:8080")
        job = oracle.start_job(
            study="halfcheetah-ppo",
            space={"learning_rate": Scale([0.5, 1, 2])},
            model=policy,
            total_env_steps=1_000_000,
        )
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        on_error: Literal["default", "raise"] | None = None,
        propose_deadline_seconds: float | None = None,
        spool_directory: str | Path | None = None,
        **settings: Any,
    ) -> None:
        """Open the oracle; a remote one is not called yet.

        Args:
            url: http://host:port, https://host, or embedded:path of a local store.
            token: access token.
            on_error: `default`: a job goes on with its default values; `raise`: it raises.
            propose_deadline_seconds: `Job.propose` returns within this time.
            spool_directory: where undelivered reports wait.
            settings: any other of `ClientSettings`. Whatever is not given comes from the
                environment, from a file, or is the default.

        Raises:
            OracleMisconfigured: a setting that cannot work, or a store that cannot be opened.
        """
        self.settings = load_settings(
            {
                "url": url,
                "token": token,
                "on_error": on_error,
                "propose_deadline_seconds": propose_deadline_seconds,
                "spool_directory": spool_directory,
                **settings,
            }
        )
        say_if_temporary(self.settings.spool_directory)
        self._endpoint = Endpoint(self.settings)
        self._jobs: list[Job] = []
        call_at_exit(self.close)

    def start_job(
        self,
        *,
        study: str,
        space: Mapping[str, Hyperparameter | Mapping[str, Any]],
        total_env_steps: int,
        model: Any = None,
        strategy: str | Mapping[str, Any] | Strategy | None = None,
        returns: str | Mapping[str, Any] | ReturnSetting | None = None,
        hold: int | Mapping[str, Any] | HoldSetting | None = None,
        seed: int | None = None,
        base_values: Mapping[str, float] | None = None,
        role: Role = "auto",
        metadata: Mapping[str, str] | None = None,
        job_key: str | None = None,
        resume_from: Mapping[str, Any] | None = None,
        prefetch: bool = False,
        kernel_transposed: bool = True,
    ) -> Job:
        """Create or confirm the study, and start a job in it.

        It waits for the oracle no longer than `start_deadline_seconds`: then the job begins on
        its defaults and joins in the background when it can.

        Args:
            study: its name. The first job creates it; later ones must define it alike.
            space: the hyperparameters that the oracle may choose.
            total_env_steps: the planned length of the run.
            model: a torch module, or a mapping (nested, as in JAX) from names to arrays.
            strategy: who chooses: a name, or the protocol's definition of a strategy.
            returns: which number is the return: a kind, or a `ReturnSetting`.
            hold: for how many updates a decision holds, or a `HoldSetting`.
            seed: of the study's randomness.
            base_values: what relative factors multiply, for the record.
            role: what the job is for; by default the study decides.
            metadata: environment, algorithm, seed, commit …, for people.
            job_key: the same key continues the same job after an interruption.
            resume_from: `Job.state` of the same job at a checkpoint that training goes on from:
                what is asked and reported again is then not counted twice.
            prefetch: each update uses the answer to the previous update's question, so that no
                update waits for the oracle.
            kernel_transposed: whether leaves called "kernel" are (inputs, output units), as in
                Flax.

        Raises:
            OracleMisconfigured: an argument that cannot work.
            OracleRefused: the oracle will not have the job: the study is defined differently,
                the token is wrong, …. Raised here, whatever `on_error`; never later.
            OracleUnreachable: no answer in time, only with `on_error="raise"`.
        """
        check_name(study)
        space = mapped("space", space)
        resume_from = mapped("resume_from", resume_from)
        source = TensorSource(model, kernel_transposed=kernel_transposed)
        try:
            definition = StudyDefinition(
                space=search_space_adapter.validate_python(space),
                **_given(
                    strategy=_expanded(strategy, "name"),
                    returns=_expanded(returns, "kind"),
                    hold=_expanded(hold, "updates"),
                    seed=seed,
                ),
            )
            start = StartJob(
                job_key=job_key or resume_from.get("job_key") or uuid.uuid4().hex,
                tensors=source.shapes(),
                base_values=mapped("base_values", base_values),
                total_env_steps=total_env_steps,
                role=role,
                metadata={key: str(value) for key, value in mapped("metadata", metadata).items()},
            )
        except ValidationError as error:
            raise OracleMisconfigured(one_line(error)) from None
        job = Job(
            self._endpoint, study, definition, start, source, prefetch=prefetch,
            resume_from=resume_from or None,
        )  # fmt: skip
        self._jobs = [*(other for other in self._jobs if not other.is_finished), job]
        call_at_exit(self.close)  # this may be a child of the process that opened the oracle
        try:
            job.wait_until_joined(self.settings.start_deadline_seconds)
        except Exception:
            self._jobs.remove(job)
            job.abandon()
            raise
        return job

    def close(self) -> None:
        """Finish the jobs that are not finished, and close an embedded store."""
        atexit.unregister(self.close)
        for job in self._jobs:
            job.end(CLOSE_SECONDS)
        self._jobs.clear()
        self._endpoint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def check_name(study: Any) -> None:
    """See that this can be a study's name.

    Raises:
        OracleMisconfigured: it cannot.
    """
    try:
        _name.validate_python(study, strict=True)
    except ValidationError:
        raise OracleMisconfigured(
            "expected a study's name of letters, digits, '.', '_' and '-' (128 at most, the first "
            f"a letter or digit), got {str(study)[:200]!r}"
        ) from None


def mapped(argument: str, given: Any) -> dict[Any, Any]:
    """An argument that is a mapping, empty where it is None.

    Raises:
        OracleMisconfigured: it is something else.
    """
    if given is not None and not isinstance(given, Mapping):
        raise OracleMisconfigured(
            f"expected {argument} as a mapping, such as {{'name': ...}}, got {str(given)[:200]!r}"
        )
    return dict(given or {})


def _expanded(setting: Any, field: str) -> Any:
    """A bare name or number as the one field that it stands for."""
    if setting is None or isinstance(setting, Definition | Mapping):
        return setting
    return {field: setting}


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
