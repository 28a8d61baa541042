"""Names of products, as records and reports hold them."""

import pytest

from imf_deploy.method.names import find_blocks_kept, imf
from imf_deploy.study.selection import prefixes


@pytest.mark.parametrize(
    "name", ["", "imf", "imf@", "imf@0", "imf@01", "imf@-1", "imf@10000", "imf@²", "Plain"]
)
def test_names_of_no_product(name: str) -> None:
    assert find_blocks_kept(name) is None


def test_prefixes_are_counted() -> None:
    assert [find_blocks_kept(name) for name in ("plain", imf(1), imf(9999))] == [0, 1, 9999]
    assert prefixes(["imf@10", "plain", "imf@0", "imf@2", "imf@2", "other"]) == ["imf@2", "imf@10"]
