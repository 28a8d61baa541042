"""Runners: one interface to run a deployable file in any runtime."""
