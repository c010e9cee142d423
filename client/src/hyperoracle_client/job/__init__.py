"""One training job: asking, reporting, ending."""

from hyperoracle_client.job.job import Job

__all__ = ["Job"]
