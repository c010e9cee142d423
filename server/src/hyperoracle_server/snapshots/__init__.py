"""Snapshots: a study, or a whole store, as one sealed file; made, examined and restored.

A snapshot is a SQLite database with the ledger's schema, followed by a line of JSON that says what
it is and a line with the SHA-256 of all before it (`seal`). Nothing in it is ever run.
"""
