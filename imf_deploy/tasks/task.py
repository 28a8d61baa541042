"""What every kind of problem has in common."""

INPUT = "images"
OUTPUT = "logits"
"""Names of the input and the output of the files that are written."""
