"""Runners: one way to run a deployable file, whatever runs it."""
