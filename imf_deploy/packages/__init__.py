"""Packages: folders that a serving system loads as they are, made from a finished run."""
