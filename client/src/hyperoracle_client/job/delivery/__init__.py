"""Reports on their way: kept on disk until the oracle has them."""
