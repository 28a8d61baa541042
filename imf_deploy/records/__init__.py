"""Typed records, one for each kind of file: its content, its origin, and its measurements."""
