"""Apache Kafka as the bus: the same records at the same places, on a cluster (`bus = "kafka://host:port/PREFIX"`)."""
