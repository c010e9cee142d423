"""Wire to oracle: the only importers of the protocol's messages beside `wire`."""
