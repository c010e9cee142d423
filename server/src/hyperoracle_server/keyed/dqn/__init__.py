"""A deep Q-network on keys, in plain NumPy: small enough to train within a report.

| module | idea |
|---|---|
| `mlp` | the network: forward, loss and gradients; the optimiser's update |
| `replay` | transitions under keys, the earliest leaving first |
| `learner` | targets, target network, counts; all of it as bytes and back |

Source: Mnih et al., Human-level control through deep reinforcement learning, Nature 2015.
"""
