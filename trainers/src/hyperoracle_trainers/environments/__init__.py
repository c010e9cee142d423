"""Environments, several at a time: Gymnasium's, Atari's, our classic control."""
