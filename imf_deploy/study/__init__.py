"""Studies: IMF and other methods compared with the same budget, order of data and seeds."""
