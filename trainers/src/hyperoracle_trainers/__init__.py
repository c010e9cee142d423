"""Readable PPO, A2C and ACKTR that ask HyperOracle for their hyperparameters.

A trainer is built from its settings and trains as a generator of phases::

    from hyperoracle_trainers.ppo import PPO
    from hyperoracle_trainers.presets import default_settings

    trainer = PPO(default_settings("ppo", "CartPole-v1", seed=1))
    for phase in trainer.train():
        print(phase.env_step, phase.episode_returns)
"""
