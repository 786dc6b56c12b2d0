"""Schemas: the types of everything that travels, their encodings, their checks, and the errors of the package."""
