"""Who may do what: tokens, scopes, rate limits, and the record of administrative calls."""
