"""What this machine can build, run and measure, and what would bring the rest."""

from imf_deploy.doctor.findings import Finding, examine

__all__ = ["Finding", "examine"]
