"""The sub-commands that this distribution adds to `hyperoracle`."""
