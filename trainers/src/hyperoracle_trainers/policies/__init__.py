"""Actor-critics: networks, what their output means, and passes through them."""
