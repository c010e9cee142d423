"""PPO, A2C and ACKTR: a page each, and what they share."""
