"""The console: a read-only page of what stands, for people at a desk and for a screen on the wall."""
