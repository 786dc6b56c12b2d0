"""Real clusters for tests: a Kafka broker, a Flink cluster."""
