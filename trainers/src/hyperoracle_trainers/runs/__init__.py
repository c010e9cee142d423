"""A run from its plan to its end: log, writers, checkpoints, evaluation."""
