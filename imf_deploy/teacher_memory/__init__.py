"""What a frozen teacher answered, kept so that it is not computed twice."""
