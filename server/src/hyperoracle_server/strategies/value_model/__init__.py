"""What a held hyper-action is worth, relative to the default: records in, effects out. Pure NumPy.

`advantages` turns the returns around a decision into one number, `gaussian_process`
estimates the effects of bins with their uncertainty.

`course` notes a job's decisions and returns, `choice` goes from effects to bins, `guards` go back
to the default. It is the core of the strategies `anchored` and `cautious_config`; `best_config`
shares the study's guard.
"""
