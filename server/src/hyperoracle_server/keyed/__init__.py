"""Strategies that decide by keys of hyper-states: encoder, memory, Q-network."""
