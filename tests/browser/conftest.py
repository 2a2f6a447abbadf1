"""One headless Chromium for all tests here; without it they are skipped."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import open_page

from explorer_files import build_explorer
from locheads.report.html import write_report

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
REPORT_FILES = Path(__file__).resolve().parents[1] / "unit" / "report" / "conftest.py"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1400,1000"),
)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("Chromium and chromedriver are not installed (Debian: apt-get install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """The browser; whatever it writes to its console fails the test that made it."""
    chromium.get_log("browser")
    yield chromium
    written = chromium.get_log("browser")
    chromium.get("about:blank")
    assert written == []


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its pages."""
    # The synthetic run of the report's tests. By its path: every folder of tests has a conftest.
    spec = importlib.util.spec_from_file_location("report_files", REPORT_FILES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = build_explorer(module.build_run(tmp_path_factory.mktemp("browser") / "run"))
    write_report(folder)
    return folder


@pytest.fixture
def page(browser: Any, folder: Path) -> Any:
    """The explorer, opened from its file."""
    open_page(browser, (folder / "explorer.html").as_uri())
    return browser
