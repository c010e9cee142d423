"""What a held hyper-action is worth, relative to the default: records in, effects out. Pure NumPy.

`advantages` turns the returns around a decision into one number, `gaussian_process`
estimates the effects of bins with their uncertainty.

`course` notes a job's decisions and returns, `choice` goes from effects to bins, `guards` go back
to the default. `anchored` is the hyper-agent that all this makes. `cautious_config` has the same
core, and `best_config` the study's guard.
"""
