"""What tests of several distributions share."""
