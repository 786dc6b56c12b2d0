"""Flink for Seawall: its environment, its settings, a cluster on this machine, and jobs."""
