"""The sink process and its targets."""
