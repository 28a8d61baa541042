"""Run Python as another processor would; see :mod:`imf_deploy.portability.other_cpus`.

python tests/on_cpu.py haswell -m pytest tests/portability   AVX2 without VNNI: sums saturate
python tests/on_cpu.py neoverse-n1 script.py ARGUMENTS       ARM64 with dot products
"""

import os
import sys

from imf_deploy.portability.other_cpus import CPUS, check, emulated, why_not

__all__ = ["check", "emulated", "why_not"]


def main() -> None:
    """Run the command line above."""
    if len(sys.argv) < 3 or sys.argv[1] not in CPUS:
        sys.exit(f"usage: on_cpu.py {{{','.join(CPUS)}}} SCRIPT ARGUMENTS\n{__doc__}")
    cpu, *arguments = sys.argv[1:]
    if reason := why_not(cpu):
        sys.exit(f"on_cpu.py: {reason}")
    check(cpu)
    command = emulated(cpu, arguments)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
