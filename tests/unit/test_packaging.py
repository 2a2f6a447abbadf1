"""Every package that the project needs is pinned, once, and every extra is named where it is offered."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = sorted(name for name in PROJECT["optional-dependencies"] if name != "dev")


def pins(name: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(package): Version(version) for package, version in (line.split("==") for line in lines)}


LOCKED, ADDED = pins("requirements.lock"), pins("requirements-extras.lock")


def unpinned(requirements: list[str]) -> list[str]:
    """Those that no pinned version satisfies."""
    known = LOCKED | ADDED
    parsed = {text: Requirement(text) for text in requirements}
    return [
        text for text, r in parsed.items() if (canonicalize_name(r.name) not in known)
        or known[canonicalize_name(r.name)] not in r.specifier
    ]  # fmt: skip


@pytest.mark.parametrize("extra", [*EXTRAS, "dev"])
def test_every_package_of_an_extra_is_pinned(extra: str) -> None:
    assert unpinned(PROJECT["optional-dependencies"][extra]) == []


def test_every_dependency_is_pinned() -> None:
    assert unpinned(PROJECT["dependencies"]) == []
    assert unpinned(["pillow>=13", "nothing-of-this-name"]) == ["pillow>=13", "nothing-of-this-name"]


def test_no_package_has_two_pins() -> None:
    assert LOCKED.keys() & ADDED.keys() == set()


def test_torchvision_is_the_release_for_torch() -> None:
    """Since torch 2.0, torchvision 0.N belongs to torch 2.(N - 15)."""
    assert ADDED["torchvision"].minor == LOCKED["torch"].minor + 15


@pytest.mark.parametrize("file", ["Makefile", "docs/models.md"])
def test_the_extras_are_named_where_they_are_offered(file: str) -> None:
    text = (ROOT / file).read_text()
    assert all(re.search(rf"\b{extra}\b", text) for extra in EXTRAS)
    if file == "Makefile":
        assert f"ALL_EXTRAS = {','.join(EXTRAS)}\n" in text
