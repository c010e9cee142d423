"""The calls beside the hot ones: what users of studies ask for, and what operators do."""
