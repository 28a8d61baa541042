from __future__ import annotations

import pytest

from imf_deploy.errors import UsageError
from imf_deploy.export.choice import choose_profile, profiles_text
from imf_deploy.settings import BatchRange
from imf_deploy.settings.export import parse_capability, parse_profiles, profiles_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1:8:32", BatchRange(1, 8, 32)),
        (" 1 : 1 : 4 ", BatchRange(1, 1, 4)),
        ("4", BatchRange(4, 4, 4)),
    ],
)
def test_batch_range(text: str, expected: BatchRange) -> None:
    assert BatchRange.parse(text) == expected
    assert BatchRange.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "0", "8:4:2", "1:8", "1:2:3:4", "a:b:c", "-1:1:1", "1:9:8", "1.5", "²", "9" * 99, "1::2"]
)
def test_wrong_batch_range(text: str) -> None:
    with pytest.raises(UsageError, match="MIN:OPT:MAX"):
        BatchRange.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("86", "86"),
        ("sm86", "86"),
        ("SM_89", "89"),
        ("8.6", "86"),
        (" 7.5 ", "75"),
        ("12.0", "120"),
        ("121", "121"),
    ],
)
def test_capability(text: str, expected: str) -> None:
    assert parse_capability(text) == expected


@pytest.mark.parametrize("text", ["", "70", "90", "8", "8.60", "ampere", "sm", "86,89", "8..6", "٨٦"])
def test_wrong_capability(text: str) -> None:
    with pytest.raises(UsageError, match="75, 80, 86, 89, 120, 121"):
        parse_capability(text)


def test_several_profiles() -> None:
    profiles = parse_profiles("1, 8:32:64")
    assert profiles == (BatchRange(1, 1, 1), BatchRange(8, 32, 64))
    assert profiles_text(profiles) == "1:1:1,8:32:64"
    assert parse_profiles(profiles_text(profiles)) == profiles
    assert profiles_of(profiles) == profiles
    assert profiles_of(profiles[0]) == profiles[:1]


@pytest.mark.parametrize("text", ["", "1,", "1,1", "1:8:32,4,1:8:32", ",".join(map(str, range(1, 18)))])
def test_wrong_profiles(text: str) -> None:
    with pytest.raises(UsageError):
        parse_profiles(text)


@pytest.mark.parametrize(
    ("size", "expected"), [(1, 0), (2, 1), (8, 1), (9, 1), (12, 2), (32, 2), (64, 2), (65, None), (0, None)]
)
def test_the_profile_that_is_tuned_closest_to_a_batch(size: int, expected: int | None) -> None:
    assert choose_profile(parse_profiles("1,1:4:16,8:32:64"), size) == expected
