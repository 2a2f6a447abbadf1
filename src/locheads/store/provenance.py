"""Where a number comes from: code, versions, machine, arguments, times."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from locheads.store.digest import file_digest, json_digest

PACKAGES = (
    "locheads", "torch", "torchvision", "transformers", "tokenizers", "pillow", "numpy", "scipy", "opencv-python",
    "pycocotools", "hydra-core",
)  # fmt: skip
SOURCES = (".py", ".j2", ".csv")
"""What decides how a result comes out; weights and head sets have digests of their own."""


def provenance() -> dict[str, Any]:
    """Plain values for provenance.json. Holds no environment variables, so no secrets."""
    return {
        **git_state(),
        "source_sha256": source_digest(),
        "argv": sys.argv,
        "versions": versions(),
        "hardware": hardware(),
    }


def versions() -> dict[str, str | None]:
    """Of Python and of the packages on which a result stands."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


@cache
def source_digest() -> str:
    """sha256 over the package's own files but the weights: identifies a state of the code, with git and without."""
    root = Path(__file__).resolve().parents[1]
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix in SOURCES)
    return json_digest([[str(path.relative_to(root)), file_digest(path)] for path in files])


def git_state() -> dict[str, Any]:
    """Commit of the code, whether files differ from it, and a hash of the difference; all null outside git."""
    root = Path(__file__).resolve().parents[3]
    commit = _git(root, "rev-parse", "HEAD")
    # Not the status of some repository that merely contains an installed copy of the package.
    if commit is None or not (root / "pyproject.toml").exists():
        return {"commit": None, "dirty": None, "diff_sha256": None}
    difference = _git(root, "diff", "HEAD") or ""
    return {
        "commit": commit,
        "dirty": bool(_git(root, "status", "--porcelain")),
        "diff_sha256": hashlib.sha256(difference.encode()).hexdigest() if difference else None,
    }


def hardware() -> dict[str, Any]:
    """Machine in words: processor, cores, memory, GPU."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": _gpus(),
    }


def _gpus() -> list[str]:
    """As torch names them; torch takes seconds to import, so it is asked only where there is a GPU's driver."""
    if sys.platform == "linux" and not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))):
        return []
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def version(name: str) -> str | None:
    """Of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
