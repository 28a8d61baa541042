"""The study: IMF and its rivals with the same budget, order of data and seeds."""
