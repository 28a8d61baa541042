"""Calibration (installs as ``imf_deploy.calib``)."""
