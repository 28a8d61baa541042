"""Parts of ``benchmarks/peers.py``: a script for each tool, and the measurement."""
