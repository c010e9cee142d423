"""The life of studies and jobs."""
