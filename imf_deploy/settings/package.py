"""Settings of packages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imf_deploy.settings.base import settings

Target = Literal["directory", "huggingface", "triton", "djl"]
"""The system that a package is for."""


@settings("Package")
class PackageSettings:
    """Which files of a run are packaged."""

    product: Annotated[
        str,
        Field(description="plain or imf@k; by default the product that the run recommends, or the first."),
    ] = ""
    precision: Annotated[
        Literal["", "fp32", "fp16", "int8"],
        Field(
            description="Precision of the file; by default the one that the run recommends, if it fits the "
            "package, or fp32."
        ),
    ] = ""
    allow_failed: Annotated[
        bool, Field(description="Package a file that missed its gate; the card states that it did.")
    ] = False
