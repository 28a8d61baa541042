"""``import imf_deploy``: light, complete, and its verbs stay functions whatever is imported around them."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import imf_deploy

PACKAGE = Path(imf_deploy.__file__).parent
VERBS = ("bench", "build_engine", "distill", "export_onnx", "quantize", "strip", "verify", "write_report")
# Every module in an order of its own, and then every verb on arguments that it refuses at once.
CALL = """
import importlib, pkgutil, random, sys
import imf_deploy
order, verbs = sys.argv[1], sys.argv[2].split(",")
found = pkgutil.walk_packages(imf_deploy.__path__, "imf_deploy.")
names = [module.name for module in found if "__main__" not in module.name]
assert {"imf_deploy.export.stage", "imf_deploy.calib.stage", "imf_deploy.api.strip"} <= {*names}, names
names = {"forwards": names, "backwards": names[::-1]}.get(order) or random.Random(0).sample(names, len(names))
before = {verb: getattr(imf_deploy, verb) for verb in verbs} if order == "shuffled" else {}
for name in names:
    importlib.import_module(name)
for verb in verbs:
    function = getattr(imf_deploy, verb)
    assert callable(function) and not hasattr(function, "__path__"), verb
    assert before.get(verb, function) is function
    try:
        function(*[None] * 4) if verb in ("distill", "quantize") else function([], [], [])
    except (TypeError, ValueError, AttributeError, imf_deploy.errors.ImfDeployError):
        continue
    raise AssertionError(f"{verb} took nothing")
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled"])
def test_verbs_stay_functions_in_any_order_of_imports(order: str) -> None:
    done = python(CALL, order, ",".join(VERBS))
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_import_is_light() -> None:
    code = "import sys, imf_deploy; dir(imf_deploy); print(*(m for m in sys.modules if '.' not in m))"
    done = python(code)
    assert done.returncode == 0, done.stderr
    heavy = {"torch", "torchvision", "numpy", "onnx", "onnxruntime", "pydantic", "rich", "accelerate"}
    assert not heavy & set(done.stdout.split())


def test_what_is_offered_is_declared_for_editors_too() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    declared = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert declared == set(imf_deploy.__all__) == set(imf_deploy._MODULES)
    assert set(imf_deploy.__all__) <= set(dir(imf_deploy))
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        imf_deploy.train  # noqa: B018


@pytest.mark.parametrize("name", imf_deploy.__all__)
def test_everything_has_a_docstring_and_types(name: str) -> None:
    thing = getattr(imf_deploy, name)
    documented = inspect.getdoc(thing) or ""
    assert documented
    if name in VERBS or name == "ImfDistiller":
        assert "Example:" in documented
        assert "Raises:" in documented
        signature = inspect.signature(thing)
        assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
        inside = documented.partition("Args:")[2]
        assert all(f"{parameter}:" in inside for parameter in signature.parameters)
