"""Every package that the project needs is pinned, once, every extra is named where it is offered, and a wheel holds
what a run needs."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
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


NOT_OURS = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders beside its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, folder / "source" / name, symlinks=True, ignore=NOT_OURS)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*build, "-w", str(folder), str(folder / "source")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def files_below(folder: Path) -> set[str]:
    """Relative names; what Python or a user leaves there is none of the package's."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {str(name) for name in names if not {"__pycache__", "local"} & {*name.parts}}


def test_a_wheel_holds_every_file_of_the_package_and_the_configuration(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    conf, package = files_below(ROOT / "conf"), files_below(ROOT / "src" / "locheads")
    wanted = {f"locheads/{name}" for name in package} | {f"locheads/conf/{name}" for name in conf}
    assert len([name for name in wanted if name.startswith("locheads/conf/")]) > 100
    assert wanted - held == set()
    assert [name for name in held if not name.startswith(("locheads/", "locheads-"))] == []


def test_an_installed_wheel_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Beside no checkout: the packages that it depends on are those of this environment."""
    installed = {path.name for path in Path(sysconfig.get_path("purelib")).glob("*locheads*")}
    # Without --ignore-installed pip would take this environment's own installation away.
    options = ["--quiet", "--no-deps", "--no-index", "--ignore-installed", "--prefix", str(tmp_path / "own")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True, capture_output=True)
    assert {path.name for path in Path(sysconfig.get_path("purelib")).glob("*locheads*")} == installed
    site = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "own"), "platbase": str(tmp_path / "own")})
    command = Path(sysconfig.get_path("scripts", vars={"base": str(tmp_path / "own")})) / "locheads"
    work = tmp_path / "work"
    work.mkdir()

    def locheads(*arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": site}
        done = subprocess.run([command, *arguments], cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "llava_1_5_7b" in locheads("--help")
    assert "llava-hf/llava-1.5-7b-hf" in locheads("model=llava_1_5_7b", "--cfg", "job")
    assert "leakage guard" in locheads("stage=check")
    locheads("heads.set=pocket", "dataset.limit=4", "explorer.samples=0", "evaluation.resamples=10")
    assert len(list(work.glob("outputs/default/*/metrics.json"))) == 1
    where = [sys.executable, "-c", "import locheads; print(locheads.__file__)"]
    told = subprocess.run(where, cwd=work, env=os.environ | {"PYTHONPATH": site}, capture_output=True, text=True).stdout
    assert Path(told.strip()).is_relative_to(tmp_path)
