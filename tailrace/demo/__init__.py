"""The demo: a sample shop under load, replicated, killed, compared. `python -m tailrace.demo`"""
