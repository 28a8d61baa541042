"""Stripping: parts that only training needs are removed, and the removal is proved."""
