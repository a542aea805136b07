"""What `make bench` measures: real servers, the real command, whole processes."""
