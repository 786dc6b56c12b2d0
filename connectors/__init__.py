"""What touches the world: the bus, files, venue formats, key custody."""
