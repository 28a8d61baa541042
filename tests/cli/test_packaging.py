"""What is packaged, and that all of it can be imported without a GPU."""

import importlib
import pkgutil
import tomllib
from pathlib import Path

import imf_deploy

ROOT = Path(__file__).parents[2]


def test_the_list_of_packages_is_the_folders_that_hold_one() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        "imf_deploy": ROOT / "imf_deploy",
        "imf_deploy.export": ROOT / "export",
        "imf_deploy.calib": ROOT / "calib",
    }
    found = {
        ".".join([name, *path.parent.relative_to(folder).parts])
        for name, folder in folders.items()
        for path in folder.rglob("__init__.py")
    }
    assert sorted(settings["packages"]) == sorted(found)
    assert settings["package-dir"] == {
        name: folder.relative_to(ROOT).as_posix() for name, folder in folders.items()
    }


def test_every_module_can_be_imported() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    names = [
        f"{package}.{module.name}"
        for package in packages
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
    ]
    assert {"imf_deploy.export.stage", "imf_deploy.cli.app"} <= set(names)
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)


def test_the_notice_of_the_embedded_data_is_packaged() -> None:
    assets = Path(imf_deploy.__file__).parent / "assets"
    assert "MIT" in (assets / "FASHION-MNIST-NOTICE.txt").read_text()
    assert (Path(imf_deploy.__file__).parent / "py.typed").is_file()
