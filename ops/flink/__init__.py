"""Flink for Seawall: its environment, a cluster on this machine, jobs, and moving between engines."""
