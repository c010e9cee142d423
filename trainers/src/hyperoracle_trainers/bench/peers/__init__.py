"""Other libraries and bare environments, measured in turn with ours."""
