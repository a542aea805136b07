"""The event log: contract, embedded, Kafka and memory implementations, schema registry."""
