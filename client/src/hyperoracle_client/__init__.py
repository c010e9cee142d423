"""Ask HyperOracle which hyperparameters a policy update should use.

oracle = Oracle("http://oracle:8080")            # or Oracle("embedded:./oracle.db")
job = oracle.start_job(study=..., space=..., model=policy, total_env_steps=...)
while ...:
    job.report(episode_returns, env_step=env_step)
    hyperparameters = job.propose(env_step=env_step)
job.finish()
"""

from hyperoracle_client.errors import (
    DeadlineMissed,
    OracleError,
    OracleMisconfigured,
    OracleRefused,
    OracleUnreachable,
    ProtocolMismatch,
)
from hyperoracle_client.job.decision import Hyperparameters
from hyperoracle_client.job.job import Job
from hyperoracle_client.job.stats import JobStats
from hyperoracle_client.oracle import Oracle
from hyperoracle_client.settings import ClientSettings
from hyperoracle_protocol.space import Categorical, Choice, Float, Int, Scale
from hyperoracle_protocol.strategies import DEFAULT_STRATEGY

__all__ = [
    "DEFAULT_STRATEGY",
    "Categorical",
    "Choice",
    "ClientSettings",
    "DeadlineMissed",
    "Float",
    "Hyperparameters",
    "Int",
    "Job",
    "JobStats",
    "Oracle",
    "OracleError",
    "OracleMisconfigured",
    "OracleRefused",
    "OracleUnreachable",
    "ProtocolMismatch",
    "Scale",
]
