"""Benchmarking: latency, start-up, memory and energy of deployable files."""
