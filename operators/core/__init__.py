"""What decides: pure steps without engine, I/O or clock."""
