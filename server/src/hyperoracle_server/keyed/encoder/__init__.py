"""The encoder: from a hyper-state to the key under which the memory stores it.

| module | idea |
|---|---|
| `architecture` | what an encoder is made of; a value, comparable and storable |
| `moments` | running moments of the features, and how features are standardised |
| `state` | everything training needs to go on, as arrays and as bytes |
| `serving` | hyper-state to key, in NumPy, immutable |
| `vae` | the torch module; imported by training alone |
| `training` | one training round: state and samples in, state and report out |
| `worker` | the child process that trains, and the messages between it and its parent |
| `training_process` | the parent's handle on that child |

Importing and serving never import torch: only a training round of a VAE does, and the
oracle runs those in a child process.
"""
