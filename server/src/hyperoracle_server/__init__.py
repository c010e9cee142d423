"""The HyperOracle service: episodic memory, encoder and hyper-agents behind HTTP.

Start reading at `oracle` (the use cases) and `study` (propose and report); `docs/architecture.md`
draws the way of a call through the modules.
"""
