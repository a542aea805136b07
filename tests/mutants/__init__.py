"""Faults planted on purpose, one a patch, each of which a test must catch: `python -m mutants`."""
