"""The fixtures that the tests of the readers share."""

from pathlib import Path

import pytest
from refer_files import TinyRefer


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRefer:
    """A REFER data set of three images, not yet written."""
    return TinyRefer(tmp_path)
