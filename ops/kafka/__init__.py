"""A real Apache Kafka cluster on this machine, for tests, benchmarks and drills; not for production."""
