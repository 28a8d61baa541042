"""Reports: terminal, JSON, HTML, Markdown."""
