"""What the browser tests do with the explorer's page and read from it."""

from collections.abc import Callable
from typing import Any

SHOW = """
const [sample, heads, settings, done] = arguments;
const $ = (id) => document.getElementById(id);
const set = (id, value) => {
  $(id).value = value;
  for (const kind of ["input", "change"]) $(id).dispatchEvent(new Event(kind));
};
set("sample", sample);
setTimeout(() => { // the sample's maps are read by now
  $("none").click();
  $("mode-add").click();
  for (const name of heads) document.querySelector(`#grid button[data-name="${name}"]`).click();
  done(settings.map((one) => {
    $("reset").click();
    for (const [id, value] of Object.entries(one)) set(id, value);
    return {...$("readout").dataset};
  }));
}, 0);
"""


def open_page(browser: Any, address: str) -> None:
    browser.get("about:blank")
    browser.get(address)
    wait(browser, lambda: browser.find_element("id", "readout").get_attribute("data-sample"))


def wait(browser: Any, condition: Callable[[], Any]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30, poll_frequency=0.05).until(lambda _: condition())


def shown(browser: Any, sample: int, heads: list[str], settings: list[dict[str, Any]]) -> list[dict[str, str]]:
    """What the page says of a sample under each of some settings, set by its own controls."""
    found = browser.execute_async_script(SHOW, sample, heads, settings)
    assert {one["sample"] for one in found} == {f"s{sample}"}
    return found


def box_of(found: dict[str, str]) -> list[float] | None:
    return [float(v) for v in found["box"].split()] or None


def canvas(browser: Any) -> str:
    return browser.execute_script("return document.getElementById('overlay').toDataURL()")


def cell(browser: Any, name: str) -> Any:
    return browser.find_element("css selector", f'#grid button[data-name="{name}"]')


def chosen(browser: Any) -> list[str]:
    found = browser.find_elements("css selector", '#grid button[aria-selected="true"]')
    return [button.get_attribute("data-name") for button in found]


def click(browser: Any, element: Any) -> None:
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def slide(browser: Any, name: str, value: float) -> None:
    browser.execute_script(
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('input'));",
        name, value,
    )  # fmt: skip


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains  # absent where these tests are skipped

    actions = ActionChains(browser)
    for key in keys:
        actions.send_keys(key)
    actions.perform()
