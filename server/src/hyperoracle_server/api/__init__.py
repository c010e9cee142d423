"""Bytes in, bytes out: HTTP around the oracle. Knows no algorithm."""
