"""What this machine can build, run and measure, and what would bring the rest."""
