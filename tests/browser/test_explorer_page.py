"""The head explorer in a real browser: what it computes, what a click and a key do, and what text cannot do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import box_of, canvas, cell, chosen, click, open_page, press, shown, slide, wait

from explorer_files import EXPRESSIONS, LOCALIZATION, geometry_of, names
from locheads.grounding.config import Border, GroundingConfig
from locheads.grounding.fuse import fuse
from locheads.grounding.ground_maps import ground_maps
from locheads.pipeline.write_explorer import decode
from locheads.records.explorer_file import ExplorerFile

SETTINGS = [
    {"sigma": sigma, "kernel": kernel, "border": border}
    for sigma, kernel in ((1.0, 7), (0.6, 3), (2.5, 15), (0.0, 7), (1.5, 1))
    for border in ("mirror", "reflect", "nearest", "constant")
]
HEADS = ([*LOCALIZATION], ["L5H7"], ["L3H1", "L0H0", "L1H2", "L5H5"])


@pytest.fixture(scope="session")
def samples(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "explorer.json").read_text())["samples"]


@pytest.fixture(scope="session")
def maps(folder: Path) -> dict[str, np.ndarray]:
    """Sample id -> [head, row, col] as the page decodes them."""
    record = ExplorerFile.read(folder)
    assert record is not None
    return {sample.sample_id: decode(record.maps(sample), list(sample.scales)) for sample in record.samples}


def test_boxes_are_those_of_the_python_grounding(page: Any, samples: list, maps: dict) -> None:
    effective = 0
    for number, sample in enumerate(samples):
        heads = HEADS[number // 2 % len(HEADS)]
        found = [box_of(one) for one in shown(page, number, heads, SETTINGS)]
        chosen = maps[sample["sample_id"]][[names().index(head) for head in heads]]
        for box, settings in zip(found, SETTINGS, strict=True):
            config = GroundingConfig(**settings | {"border": Border(settings["border"])})
            truth = ground_maps(chosen, geometry_of(sample), config).box
            assert box == (truth and pytest.approx(truth, abs=1e-9)), (sample["sample_id"], heads, settings)
        effective += any(box != found[0] for box in found)
    # Were the settings without effect, the comparison would prove little.
    assert effective >= len(samples) / 2


@pytest.mark.parametrize("level", [0.5, 1.0, 1.85, 5.0])
def test_mask_and_box_of_all_cells_at_another_threshold(page: Any, samples: list, maps: dict, level: float) -> None:
    for number, sample in enumerate(samples):
        chosen = maps[sample["sample_id"]][[names().index(head) for head in LOCALIZATION]]
        fused = fuse(chosen, GroundingConfig())
        cells = fused > level * fused.mean()
        found = shown(page, number, LOCALIZATION, [{"level": level, "component": "all_cells"}])[0]
        assert found["cells"] == "".join(str(int(cell)) for cell in cells.ravel())
        rows, cols = np.nonzero(cells)
        if len(rows) == 0:
            assert found["box"] == ""
            continue
        corners = np.array([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1])
        truth = geometry_of(sample).to_visible_pixels(corners)
        seen = truth[2] > truth[0] and truth[3] > truth[1]
        assert box_of(found) == (pytest.approx(truth.tolist(), abs=1e-9) if seen else None)


def test_images_load(page: Any, samples: list) -> None:
    size = "const p = document.getElementById('image'); return [p.naturalWidth, p.naturalHeight]"
    for sample in samples[:3]:
        wait(page, lambda s=sample: page.execute_script(size) == [s["width"], s["height"]])
        page.find_element("id", "next").click()


def test_clicks_change_the_image(page: Any) -> None:
    assert sorted(chosen(page)) == sorted(LOCALIZATION)
    seen = [canvas(page)]
    steps = [
        lambda: click(page, cell(page, "L0H3")),
        lambda: click(page, page.find_element("id", "best_iou")),
        lambda: slide(page, "sigma", 3.0),
        lambda: slide(page, "level", 1.2),
        lambda: slide(page, "opacity", 0.3),
        lambda: click(page, page.find_element("id", "show-mask")),
        lambda: click(page, page.find_element("id", "show-map")),
        lambda: click(page, page.find_element("id", "show-boxes")),
    ]
    for step in steps:
        step()
        seen.append(canvas(page))
    assert len(set(seen)) == len(seen)
    source = page.find_element("id", "image").get_attribute("src")
    click(page, page.find_element("id", "next"))
    wait(page, lambda: page.find_element("id", "image").get_attribute("src") != source)


def test_parts_that_were_looked_at_again_are_framed(page: Any) -> None:
    """Over a bare canvas, whose other pixels stay clear: without parts all of them."""
    script = """
    const [views, boxes] = arguments, data = JSON.parse(document.getElementById("data").textContent);
    const canvas = document.createElement("canvas");
    Draw.stage(canvas, 2 * data.samples[0].width, { ...data.samples[0], true_box: null, views }, null, null, { boxes });
    const { data: bytes } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const inked = [...bytes.filter((_, i) => i % 4 === 3).keys()].filter((i) => bytes[4 * i + 3] > 0);
    const xs = inked.map((i) => i % canvas.width), ys = inked.map((i) => Math.floor(i / canvas.width));
    const ends = (values) => [Math.min(...values), Math.max(...values)];
    return [canvas.width / data.samples[0].width, inked.length && [...ends(xs), ...ends(ys)]];
    """
    factor, (left, right, top, bottom) = page.execute_script(script, [[20, 10, 120, 90]], True)
    assert [left, top, right, bottom] == pytest.approx([factor * v for v in (20, 10, 120, 90)], abs=2 * factor)
    assert page.execute_script(script, [], True)[1] == page.execute_script(script, [[20, 10, 120, 90]], False)[1] == 0


def test_heads_combine(page: Any) -> None:
    click(page, cell(page, "L0H3"))
    assert chosen(page) == ["L0H3"]
    click(page, page.find_element("id", "mode-add"))
    click(page, cell(page, "L5H5"))
    assert chosen(page) == ["L0H3", "L5H5"]
    assert len(page.find_elements("css selector", "#thumbs canvas")) == 2
    click(page, cell(page, "L0H3"))
    assert chosen(page) == ["L5H5"]
    click(page, page.find_element("id", "none"))
    assert chosen(page) == []
    assert "No head selected" in page.find_element("id", "readout").text


def test_the_grid_changes_its_colours(page: Any) -> None:
    colours = "return [...document.querySelectorAll('#grid button')].map((b) => b.style.backgroundColor).join()"
    seen = []
    for option in page.find_elements("css selector", "#metric option"):
        option.click()
        seen.append(page.execute_script(colours))
    assert len(set(seen)) == len(seen) == 4


def test_everything_by_keyboard(page: Any) -> None:
    from selenium.webdriver import ActionChains, Keys

    expression = page.find_element("id", "expression")
    press(page, "n")
    wait(page, lambda: expression.text == EXPRESSIONS[1])
    press(page, "p")
    wait(page, lambda: expression.text == EXPRESSIONS[0])
    for _ in range(40):
        press(page, Keys.TAB)
        if page.switch_to.active_element.get_attribute("data-name"):
            break
    # One stop of the tab order: the first localization head. Its focus is visible.
    assert page.switch_to.active_element.get_attribute("data-name") == "L3H1"
    focus = page.execute_script(
        "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]"
    )
    assert focus[0] == "solid" and focus[1] != "0px"
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ENTER)
    assert chosen(page) == ["L4H2"]
    press(page, Keys.HOME)
    ActionChains(page).key_down(Keys.SHIFT).send_keys(Keys.SPACE).key_up(Keys.SHIFT).perform()
    assert chosen(page) == ["L4H0", "L4H2"]
    press(page, "l")
    assert sorted(chosen(page)) == sorted(LOCALIZATION)
    press(page, "b", "/")
    assert not page.find_element("id", "show-boxes").is_selected()
    assert page.switch_to.active_element.get_attribute("id") == "sample"
    page.execute_script("document.getElementById('stage').focus()")
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    wait(page, lambda: expression.text == EXPRESSIONS[2])
    page.execute_script("document.getElementById('letters').click()")
    press(page, "n")
    assert expression.text == EXPRESSIONS[2]


def test_everything_has_a_name(page: Any) -> None:
    controls = page.find_elements("css selector", "button, select, input, canvas[role=img], [role=grid]")
    assert len(controls) > 60
    assert [c.get_attribute("outerHTML") for c in controls if not c.accessible_name] == []
    assert cell(page, "L3H1").accessible_name.startswith("L3H1, selection frequency 62.0 %, attention sum ")


def test_text_from_data_stays_text(page: Any) -> None:
    title = page.title
    for expression in EXPRESSIONS:
        assert page.find_element("id", "expression").get_property("textContent") == expression
        page.find_element("id", "next").click() if expression != EXPRESSIONS[-1] else None
    options = page.find_elements("css selector", "#sample option")
    assert [o.get_property("textContent") for o in options] == [f"{i + 1}. {e}" for i, e in enumerate(EXPRESSIONS)]
    assert page.execute_script("return document.querySelectorAll('[src=x]').length") == 0
    assert page.title == title


def test_no_other_script_can_run(chromium: Any, folder: Path) -> None:
    open_page(chromium, (folder / "explorer.html").as_uri())
    chromium.execute_script(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 1\">');"
        "const s = document.createElement('script'); s.textContent = 'window.owned = 2'; document.body.append(s);"
    )
    chromium.execute_async_script("setTimeout(arguments[0], 300)")
    assert chromium.execute_script("return window.owned") is None
    said = " ".join(entry["message"] for entry in chromium.get_log("browser"))
    assert said.count("Content Security Policy") >= 2


def test_an_address_is_a_view(page: Any, folder: Path) -> None:
    shown(page, 4, ["L5H5", "L0H0"], [{"sigma": 2.0}])
    wait(page, lambda: "sample=s4" in page.current_url)
    address, image = page.current_url, canvas(page)
    open_page(page, address)
    assert page.find_element("id", "readout").get_attribute("data-sample") == "s4"
    assert sorted(chosen(page)) == ["L0H0", "L5H5"]
    assert canvas(page) == image
    open_page(page, f"{address.split('#')[0]}#sample=s1&heads=L9H9,<b>&sigma=99&kernel=x&border=evil")
    assert page.find_element("id", "sigma").get_property("value") == "4"
    assert page.find_element("id", "border").get_property("value") == "mirror"


@pytest.fixture
def phone(browser: Any) -> Iterator[Any]:
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    yield browser
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_400_pixels_and_a_finger(phone: Any, folder: Path) -> None:
    open_page(phone, (folder / "explorer.html").as_uri())
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 400
    before = canvas(phone)
    target = cell(phone, "L5H6")
    phone.execute_script("arguments[0].scrollIntoView({block: 'end', behavior: 'instant'})", target)
    place = phone.execute_script(
        "const r = arguments[0].getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2, r.width]",
        target,
    )
    assert place[2] >= 24
    point = {"x": place[0], "y": place[1]}
    phone.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    phone.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    wait(phone, lambda: chosen(phone) == ["L5H6"])
    assert canvas(phone) != before
    # The image stays in sight beside the sliders.
    phone.execute_script("document.getElementById('sigma').scrollIntoView({block: 'end', behavior: 'instant'})")
    sight = "const r = document.getElementById('stage').getBoundingClientRect(); return [r.top, r.bottom]"
    top, bottom = phone.execute_script(sight)
    assert top >= 0 and bottom < 800


def test_every_sample_shows_its_own_image(page: Any, samples: list) -> None:
    seen = set()
    for number, sample in enumerate(samples):
        shown(page, number, LOCALIZATION, [{}])
        wait(page, lambda: page.execute_script("return document.getElementById('image').naturalWidth"))
        image = page.find_element("id", "image")
        assert image.get_property("naturalWidth") == sample["width"]
        seen.add(image.get_attribute("src"))
    assert len(seen) == len(samples)


def test_report_leads_to_the_explorer_and_back(browser: Any, folder: Path) -> None:
    browser.get((folder / "report.html").as_uri())
    browser.find_element("link text", "Head explorer").click()
    wait(browser, lambda: browser.find_elements("id", "readout"))
    browser.find_element("link text", "Report of this run").click()
    wait(browser, lambda: browser.current_url.endswith("report.html"))
