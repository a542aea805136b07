"""Values and rules shared by capture, log and sinks; no I/O."""
