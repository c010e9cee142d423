"""The HyperOracle service: episodic memory, encoder and hyper-agents behind HTTP.

Start reading at `oracle.calls` (what a job asks) and `oracle.study` (propose and report);
`docs/architecture.md` draws the rooms and the way of a call through them.
"""
