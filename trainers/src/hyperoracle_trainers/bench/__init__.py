"""What `hyperoracle bench` measures: ratios within one run, each beside its floor."""
