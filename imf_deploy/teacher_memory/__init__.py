"""Stored outputs of a frozen teacher, so that they are not computed twice."""
