"""The durable store: schema, migrations, the writing thread, and what is read back."""
