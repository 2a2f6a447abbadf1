"""The table of families in docs/models.md says what the tests ask of each family, and nothing else.

After a change of the tests or a new family, what the failed assertion expects is the page's table.
"""

import json
from pathlib import Path

import pytest
from families import FAMILY_BUILDERS, MISSING, NEED_PACKAGES
from hub_folders import HUB, OF_FAMILY
from test_families import ENDINGS, WITHOUT_CHAT
from test_families_load import NEED_TORCHVISION
from test_hub_folders import GRIDS
from test_probe import ANOTHER_PROMPT, BARS, TILED

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
HEAD = "| family | files | rows | geometry | prompts | pipeline | probe: geometry | probe: prompt |"
NEEDS = {one.__name__: " and ".join(packages) for one, packages in NEED_PACKAGES.items()}


def row(name: str) -> str:
    tiles = ", tiles" if name in TILED else ""
    chat = "plain" if name in WITHOUT_CHAT else "plain, chat"
    return (
        " | ".join(
            [
                f"| `{name}`" + (f" (with {NEEDS[name]})" if name in NEEDS else ""),
                dict(OF_FAMILY.values()).get(name, "tiny only"),
                "yes",
                "yes" + tiles,
                chat + (", an ending of its own" if name in ENDINGS else ""),
                _pipeline(name),
                "yes" + tiles + (" of two columns or more" if name in BARS else ""),
                "its chat template's" if name == ANOTHER_PROMPT else "the same",
            ]
        )
        + " |"
    )


def _pipeline(name: str) -> str:
    if name in dict(OF_FAMILY.values()):  # tests/integration/test_hub_folders_run.py
        return "real images"
    return "maps" if name in NEED_TORCHVISION else "maps of a saved folder"


def test_the_page_says_of_every_family_what_is_tested() -> None:
    _, found, table = PAGE.read_text().partition(HEAD + "\n")
    rows = [line for line in table.partition("\n\n")[0].splitlines() if not line.startswith("| ---")]
    assert found and rows == [row(name) for name in sorted([*FAMILY_BUILDERS, *MISSING])]


def test_what_the_table_calls_real_files_is_tested_on_them() -> None:
    assert set(OF_FAMILY) == set(GRIDS)


@pytest.mark.parametrize("folder", OF_FAMILY)
def test_a_folder_is_of_the_family_that_the_table_names(folder: str) -> None:
    if not HUB.is_dir():
        pytest.skip(f"{HUB} is not there: the real files of hub repositories are needed")
    assert json.loads((HUB / folder / "config.json").read_text())["model_type"] == OF_FAMILY[folder][0]
