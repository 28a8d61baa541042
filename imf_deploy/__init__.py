"""Distil a light image classifier (IMF), strip it, export it, and check what came out."""

__version__ = "0.2.0.dev0"
