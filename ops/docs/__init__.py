"""Documentation that is made from the code: the API reference."""
