"""Teachers: training, reading from files, and judging them."""
