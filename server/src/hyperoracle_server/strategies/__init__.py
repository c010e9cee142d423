"""Hyper-agents: who chooses the hyperparameters."""
