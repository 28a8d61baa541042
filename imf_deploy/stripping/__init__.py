"""Stripping: what training alone needs is removed, and the removal is proved."""
