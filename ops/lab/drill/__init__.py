"""Drills: faults on a schedule against a running system, timed, and put on a record that shows tampering."""
