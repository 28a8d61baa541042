"""Teachers: trained, read from files, and judged."""
