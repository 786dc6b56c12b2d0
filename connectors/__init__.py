"""Connectors: the bus, files, venue formats, keys and logs; everything that touches the world outside the process."""
