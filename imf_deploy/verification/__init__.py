"""Verification: a deployable file against the PyTorch model it came from."""
