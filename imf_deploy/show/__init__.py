"""Everything that draws: the palette, numbers in words, tables, charts and pages; it knows no record."""
