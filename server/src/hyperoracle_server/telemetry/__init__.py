"""What is told of the process: logs, metrics, traces, readiness."""
