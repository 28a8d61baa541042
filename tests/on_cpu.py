"""Run Python as another processor would; see :mod:`imf_deploy.portability.other_cpus`.

python tests/on_cpu.py haswell -m pytest tests/portability   AVX2 without VNNI: sums saturate
python tests/on_cpu.py neoverse-n1 script.py ARGUMENTS       ARM64 with dot products
"""

from imf_deploy.portability.other_cpus import check, emulated, main, why_not

__all__ = ["check", "emulated", "main", "why_not"]

if __name__ == "__main__":
    main()
