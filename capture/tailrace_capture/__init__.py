"""The capture process and its sources."""
