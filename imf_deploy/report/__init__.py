"""Reports: terminal, JSON, HTML."""
