"""Presentation: the palette, formatted numbers, tables, charts and pages."""
