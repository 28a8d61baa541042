"""Compare several runs side by side, and choose among all their files."""
