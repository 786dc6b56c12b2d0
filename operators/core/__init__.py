"""Core: pure steps that decide, without engine, I/O or clock.

Each package imports only those before it: ``base``, ``holdings``, ``pricing``, ``credit``, ``limits``, ``portfolio``,
``journal``, ``forecasts``, ``detection``, ``market``, ``mitigation``, ``audit``, ``pipeline``.
"""
