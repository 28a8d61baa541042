"""What this machine can build, run and measure, and what would enable the rest."""
