"""Dataflows on Apache Flink: the same steps and bytes, for those who already operate it."""
