"""What `hyperoracle demo` does."""
