"""Write the API reference as HTML, from the docstrings of every module.

.venv-test/bin/python docs/api.py api
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pdoc
import pdoc.docstrings
import pdoc.render

PACKAGES = ("imf_deploy", "imf_deploy.export", "imf_deploy.calib")
"""Where modules are looked for: an editable install does not list the other two inside the first."""
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?([^`]+)`")


def modules() -> dict[str, ModuleType]:
    """Import every module but those that run something when they are imported."""
    found = {}
    for package in map(importlib.import_module, PACKAGES):
        found[package.__name__] = package
        for inner in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not inner.name.rpartition(".")[2].startswith("_"):
                found[inner.name] = importlib.import_module(inner.name)
    for module in found.values():
        for made in filter(dataclasses.is_dataclass, filter(inspect.isclass, vars(module).values())):
            # Of inherited fields, the text of a type is one of another module.
            with contextlib.suppress(NameError):  # it is imported for type checking alone
                types, signature = get_type_hints(made), inspect.signature(made.__init__)
                given = [
                    p.replace(annotation=types.get(p.name, p.empty)) for p in signature.parameters.values()
                ]
                made.__init__.__signature__ = signature.replace(parameters=given, return_annotation=None)
    return found


def write(found: dict[str, ModuleType], folder: Path) -> list[str]:
    """Write a page for each module into a folder; return what the generator warns of.

    What a package itself calls public is on its page as well.
    """
    for name, module in found.items():
        if hasattr(module, "__all__"):
            inside = [n.rpartition(".")[2] for n in found if n.rpartition(".")[0] == name]
            module.__all__ = [*module.__all__, *(n for n in inside if n not in module.__all__)]
    # pdoc turns names in backticks into links; Sphinx's roles before them would stay as text.
    markdown = pdoc.docstrings.convert
    pdoc.docstrings.convert = lambda text, *rest: markdown(ROLE.sub(r"`\1`", text), *rest)
    pdoc.render.configure(docformat="google", footer_text=f"imf-deploy {version('imf-deploy')}")
    # In the repository's root, imf_deploy/ could be meant as well as the installed package.
    with warnings.catch_warnings(record=True) as told, contextlib.chdir(Path(__file__).parent):
        warnings.simplefilter("always")
        pdoc.pdoc(PACKAGES[0], output_directory=folder)
    return [str(warning.message) for warning in told]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to write; index.html is the first page")
    chosen = parser.parse_args().folder.resolve()
    everything = modules()
    problems = write(everything, chosen)
    sys.stderr.writelines(f"warning: {problem}\n" for problem in problems)
    sys.stderr.write(f"{len(everything)} modules in {chosen / 'index.html'}\n")
    sys.exit(bool(problems))
