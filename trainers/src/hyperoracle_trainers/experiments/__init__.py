"""Experiments: many runs of a definition, made once each, and what they say together."""
