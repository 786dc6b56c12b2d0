"""Evidence: Merkle logs, signed notes, key sets, and what a subscriber checks before it obeys."""
