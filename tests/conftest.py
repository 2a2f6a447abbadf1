"""No test talks to the network, to an account, or to more than one core; shapes are checked wherever arrays pass."""

import os
import socket
from typing import Any

import jaxtyping
import pytest

# Before huggingface_hub, wandb and torch are imported: they read these once.
os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true", "OMP_NUM_THREADS": "1"}
os.environ.pop("WANDB_API_KEY", None)

SHAPED = ("absence", "dependence", "discovery", "evaluation", "geometry", "grounding", "map_numbers", "models.capture")
"""Modules and packages whose annotated shapes and types are compared with what is passed and returned."""

# Before anything of the package is imported. LOCHEADS_SHAPES=0 leaves it out, for a session without beartype.
if os.environ.get("LOCHEADS_SHAPES") != "0":
    jaxtyping.install_import_hook([f"locheads.{name}" for name in SHAPED], "shapes.checked")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but this machine is an error of the test."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
