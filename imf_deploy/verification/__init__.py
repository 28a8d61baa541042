"""Verification: a deployable file compared with the PyTorch model that it was made from."""
