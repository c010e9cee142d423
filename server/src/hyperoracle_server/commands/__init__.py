"""The server's sub-commands of `hyperoracle`."""
