"""``python -m imf_deploy``."""

from imf_deploy.cli import main

main()
