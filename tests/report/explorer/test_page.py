"""The explorer in a real browser: every control changes what it should, numbers are Python's."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_vae.metrics import PixelMetrics
from captum_vae.report import (
    GridRow,
    Picture,
    Section,
    Strip,
    Table,
    draw_map_grid,
    save_picture,
    write_page,
)
from captum_vae.report.explorer import Explorer
from tests.report.explorer import browser, pages
from tests.report.hostile import NAMES

DEFECTS, DIMENSIONS = "defects", "dimensions"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.opened() as driver:
        yield driver


@pytest.fixture(scope="module")
def defects(tmp_path_factory: pytest.TempPathFactory) -> pages.Written:
    return pages.defects(tmp_path_factory.mktemp("defects"))


@pytest.fixture(scope="module")
def dimensions(tmp_path_factory: pytest.TempPathFactory) -> pages.Written:
    return pages.dimensions(tmp_path_factory.mktemp("dimensions"))


class Shown:
    """A page in the browser, with the words to use it as a person does."""

    def __init__(self, driver: Any, written: pages.Written, hash_: str = "") -> None:
        self.driver = driver
        self.written = written
        browser.show(driver, written.page, hash_)
        browser.ready(driver)

    def script(self, code: str, *values: Any) -> Any:
        return self.driver.execute_script(code, *values)

    def element(self, css: str) -> Any:
        return self.driver.find_element("css selector", css)

    def choose(self, id_: str, words: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.element(f"#{id_}")).select_by_visible_text(words)
        browser.settled(self.driver)

    def options(self, id_: str) -> list[str]:
        return self.script(
            "return [...document.querySelectorAll(arguments[0] + ' option')].map(o => o.text)",
            f"#{id_}",
        )

    def enter(self, id_: str, text: str) -> None:
        from selenium.webdriver.common.keys import Keys

        field = self.element(f"#{id_}")
        field.clear()
        field.send_keys(text, Keys.TAB)
        browser.settled(self.driver)

    def slide(self, id_: str, value: float) -> None:
        self.script(
            "const i = document.querySelector(arguments[0]); i.value = arguments[1];"
            "i.dispatchEvent(new Event('input', {bubbles: true}))",
            f"#{id_}",
            value,
        )
        browser.settled(self.driver)

    def click(self, css: str) -> None:
        self.script("arguments[0].scrollIntoView({block: 'center'})", self.element(css))
        self.element(css).click()
        browser.settled(self.driver)

    def press(self, key: str, css: str = "body") -> None:
        if css != "body":
            self.script("arguments[0].focus()", self.element(css))
        self.element(css).send_keys(key)
        browser.settled(self.driver)

    def cards(self) -> list[str]:
        """The titles of the cards in sight, in order."""
        return self.script(
            "return [...document.querySelectorAll('.card')]"
            ".sort((a, b) => a.ariaPosInSet - b.ariaPosInSet).map(c => c.title)"
        )

    def chosen(self) -> str:
        return self.element("#chosen-name").get_attribute("textContent")

    def address(self) -> str:
        """The page's address, which follows what is chosen a third of a second late."""
        time.sleep(0.5)
        return str(self.driver.current_url)

    def views(self) -> list[str]:
        return self.script(
            "return [...document.querySelectorAll('.views figure')].map(f => f.className.slice(10))"
        )

    def filters(self, css: str) -> list[str]:
        return self.script(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.style.filter)", css
        )

    def number(self, name: str) -> float:
        return float(self.element(f"#counted-{name}").get_attribute("title"))

    def fact(self, name: str) -> str:
        return self.script(
            "const t = [...document.querySelectorAll('.chosen dt')]"
            ".find(e => e.textContent === arguments[0]);"
            "return t && (t.nextSibling.title || t.nextSibling.textContent)",
            name,
        )

    def picture(self, css: str) -> bytes:
        """A PNG of an element, wherever the page is scrolled to."""
        return browser.picture(self.driver, css)


@pytest.fixture
def shown(chromium: Any, defects: pages.Written) -> Shown:
    return Shown(chromium, defects)


@pytest.fixture
def shown_dimensions(chromium: Any, dimensions: pages.Written) -> Shown:
    return Shown(chromium, dimensions)


def leaving(driver: Any) -> list[str]:
    """Addresses that were asked for outside the file system."""
    return [a for a in browser.requests(driver) if not a.startswith(("file:", "about:"))]


@pytest.mark.parametrize("kind", [DEFECTS, DIMENSIONS])
def test_a_page_opens_without_an_error_and_asks_no_server(
    chromium: Any, kind: str, request: pytest.FixtureRequest
) -> None:
    page = Shown(chromium, request.getfixturevalue(kind))
    assert len(page.cards()) >= 12
    assert browser.errors(chromium) == []
    assert leaving(chromium) == []


# Which images ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_images_start_with_the_highest_score(shown: Shown) -> None:
    highest = [float(plane.max()) for plane in shown.written.maps["latent attention"]]
    scores = dict(zip(shown.written.names, highest, strict=True))
    expected = sorted(scores, key=lambda name: -scores[name])
    assert shown.cards() == expected[: len(shown.cards())]
    assert shown.chosen() == expected[0]
    shown.click("#descending")
    assert shown.cards()[:5] == expected[::-1][:5]


@pytest.mark.slow
def test_images_are_sorted_by_every_field(shown: Shown) -> None:
    written = shown.written
    errors = [float(plane.mean()) for plane in written.maps["reconstruction error"]]
    kl = [float(torch.rand(4, generator=_after_noise(n)).sum()) for n in range(len(written.names))]
    keys = {"error": errors, "KL (nats)": kl, "name": written.names, "order": range(40)}
    for field, values in keys.items():
        shown.choose("sort", field)
        if "highest" in shown.element("#descending").text:
            shown.click("#descending")
        order = sorted(range(40), key=lambda n: values[n])
        assert shown.cards()[:6] == [written.names[n] for n in order[:6]], field
    shown.choose("sort", "kind")
    assert all(name.startswith("good") for name in shown.cards()[:6])


def _after_noise(number: int) -> torch.Generator:
    generator = torch.Generator().manual_seed(number)
    torch.rand(pages.SIDE, pages.SIDE, generator=generator)
    return generator


@pytest.mark.slow
def test_images_are_filtered_by_name_kind_and_numbers(shown: Shown) -> None:
    shown.element("#name").send_keys("HOLE/00")
    browser.settled(shown.driver)
    assert set(shown.cards()) == {n for n in shown.written.names if n.startswith("hole/00")}
    assert shown.element("#count").text == f"{len(shown.cards())} of 40 images"
    shown.element("#name").clear()
    shown.element("#name").send_keys("0")
    shown.choose("kind", "scratch")
    assert {name.split("/")[0] for name in shown.cards()} == {"scratch"}
    shown.choose("kind", "all")
    for field in ("score", "error"):
        shown.choose("field", field)
        shown.enter("from", "0.2" if field == "score" else "0.11")
        shown.enter("to", "0.3" if field == "score" else "0.12")
        low, high = (0.2, 0.3) if field == "score" else (0.11, 0.12)
        values = shown.script(
            "return captumVae.state.order.map(i => captumVae.data.columns[arguments[0]][i])", field
        )
        assert 0 < len(values) < 40
        assert all(low <= value <= high for value in values)
        shown.enter("from", "")
        shown.enter("to", "")
    assert shown.element("#count").text == "all 40 images"


@pytest.mark.slow
def test_no_image_left_is_said(shown: Shown) -> None:
    shown.element("#name").send_keys("nothing is called so")
    browser.settled(shown.driver)
    assert shown.cards() == []
    assert shown.element("#count").text == "0 of 40 images"
    assert browser.errors(shown.driver) == []


@pytest.mark.slow
def test_a_card_is_chosen_by_a_click_and_by_keys(shown: Shown) -> None:
    from selenium.webdriver.common.keys import Keys

    cards = shown.cards()
    shown.click(".card:nth-of-type(3)")
    assert shown.chosen() in cards[1:4]
    shown.press(Keys.HOME, ".grid")
    assert shown.chosen() == cards[0]
    shown.press(Keys.ARROW_RIGHT, ".grid")
    assert shown.chosen() == cards[1]
    shown.press("j")
    assert shown.chosen() == cards[2]
    shown.press("k")
    assert shown.chosen() == cards[1]
    shown.press(Keys.END, ".grid")
    assert shown.script("return document.querySelector('.card[aria-selected=true]').title") == (
        shown.chosen()
    )
    assert shown.script("return document.querySelector('.grid').scrollTop") > 0


# Which map, in which colours ---------------------------------------------------------------------


def test_views_stand_side_by_side(shown: Shown) -> None:
    assert shown.views() == ["image", "reconstruction", "truth", "heat", "overlay", "called"]
    for view in shown.views():
        assert shown.script(
            "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return b.width > 80 && b.height > 80",
            f".view-{view} .stack",
        )


@pytest.mark.slow
def test_the_map_changes_pictures_scale_and_threshold(shown: Shown) -> None:
    before = shown.picture(".view-heat .stack"), shown.element("#high").get_attribute("value")
    shown.choose("map", "reconstruction error")
    after = shown.picture(".view-heat .stack"), shown.element("#high").get_attribute("value")
    assert before[0] != after[0] and before[1] != after[1]
    assert not shown.element("#named").is_displayed()
    shown.press("m")
    assert shown.picture(".view-heat .stack") == before[0]


@pytest.mark.slow
def test_layer_and_dimension_change_the_map_and_the_traversal(shown_dimensions: Shown) -> None:
    page = shown_dimensions
    first = page.picture(".view-heat .stack"), page.picture(".traversal")
    page.choose("layer", "encoder.conv2")
    second = page.picture(".view-heat .stack")
    assert second != first[0]
    assert page.picture(".traversal") == first[1]
    page.choose("layer", "encoder.conv1")
    page.script("document.querySelectorAll('.dim')[1].click()")
    browser.settled(page.driver)
    assert page.picture(".view-heat .stack") != first[0]
    assert page.picture(".traversal") != first[1]
    assert page.script("return document.querySelectorAll('.traversal .step').length") == 5
    assert "z = -3" in page.element(".traversal").text
    page.press("d")
    assert page.script("return document.querySelector('.dim[aria-pressed=true]') !== null")


@pytest.mark.slow
def test_dimensions_stand_in_the_order_of_their_kl(shown_dimensions: Shown) -> None:
    words = shown_dimensions.script(
        "return [...document.querySelectorAll('.dim .soft')].map(e => parseFloat(e.textContent))"
    )
    assert len(words) == 8
    assert words == sorted(words, reverse=True)
    shown_dimensions.choose("sort", "KL of the dimension")
    browser.wait_for(shown_dimensions.driver, "captumVae.klIfLoaded() !== null")
    values = shown_dimensions.script(
        "const kl = captumVae.klIfLoaded(), d = captumVae.data.dims[captumVae.state.now.dim];"
        "return captumVae.state.order.map(i => kl.of(d, i))"
    )
    assert values == sorted(values)


@pytest.mark.slow
def test_the_common_scale_says_which_dimension_it_hides(shown_dimensions: Shown) -> None:
    shown_dimensions.script("captumVae.state.set({dim: 7})")
    browser.settled(shown_dimensions.driver)
    assert "hides dimension 7" in shown_dimensions.element(".note").text
    shown_dimensions.click("#scale-own")
    assert shown_dimensions.element(".note").text == ""


@pytest.mark.slow
def test_scales_state_their_numbers(shown: Shown) -> None:
    common = shown.script("return [...document.querySelectorAll('.ends')].map(e => e.innerText)")
    assert len(common) == 2
    shown.click("#scale-own")
    plane = shown.written.maps["latent attention"][shown.written.names.index(shown.chosen())]
    own = shown.script("return document.querySelector('.ends span:last-child').textContent")
    assert float(own) == pytest.approx(float(plane.max()), rel=1e-3)
    assert not shown.element("#high").is_displayed()
    card = shown.element(".card-words").text
    assert "…" in card, "every map states its own range"
    shown.click("#scale-common")
    before = shown.picture(".view-heat .stack")
    shown.enter("high", "0.3")
    assert shown.picture(".view-heat .stack") != before
    assert "0.3 or more" in shown.element(".ends").text


@pytest.mark.slow
def test_colours_are_those_of_the_colormap(shown: Shown) -> None:
    import io

    import matplotlib
    import numpy as np
    from PIL import Image

    for name in ("viridis", "cividis", "gray", "inferno"):
        shown.choose("colors", name)
        bar = np.asarray(Image.open(io.BytesIO(shown.picture(".bar:not(.over)"))).convert("RGB"))
        middle = bar[bar.shape[0] // 2].astype(int)
        for share in (0.1, 0.5, 0.9):
            expected = np.array(matplotlib.colormaps[name](share)[:3]) * 255
            assert np.abs(middle[round(share * (len(middle) - 1))] - expected).max() < 6, name


@pytest.mark.slow
def test_overlay_colours_are_on_the_bar(shown: Shown) -> None:
    """Every pixel of the overlay is, within rounding, a colour of the overlay's bar."""
    import io

    import numpy as np
    from PIL import Image

    shown.click("#outline")
    shown.script("document.querySelector('.bar.over').style.height = '64px'")

    def colors(css: str) -> np.ndarray:
        picture = Image.open(io.BytesIO(shown.picture(css))).convert("RGB")
        return np.asarray(picture).reshape(-1, 3).astype(int)

    bar = np.unique(colors(".bar.over"), axis=0)
    pixels = colors(".view-overlay .stack")[::97]
    distances = np.abs(pixels[:, None] - bar[None]).max(-1).min(1)
    assert np.quantile(distances, 0.99) <= 8


@pytest.mark.slow
def test_opacity_changes_overlays_and_their_bar_alone(shown: Shown) -> None:
    css = (".view-overlay .stack", ".bar.over", ".view-heat .stack", ".card .stack")
    before = [shown.picture(one) for one in css]
    shown.slide("opacity", 0.2)
    after = [shown.picture(one) for one in css]
    assert [a != b for a, b in zip(after, before, strict=True)] == [True, True, False, True]
    assert "20%" in shown.script("return document.querySelector('[for=opacity]').textContent")


@pytest.mark.slow
def test_cards_show_the_view_that_is_chosen(shown: Shown) -> None:
    for words in ("image", "heat map", "ground truth", "reconstruction", "called anomalous"):
        shown.choose("view", words)
        label = shown.script("return document.querySelector('.card .stack').ariaLabel")
        assert label.startswith(f"{words} of "), label
    shown.press("v")
    assert "image of" in shown.script("return document.querySelector('.card .stack').ariaLabel")


@pytest.mark.slow
def test_a_view_is_enlarged_and_closed(shown: Shown) -> None:
    from selenium.webdriver.common.keys import Keys

    shown.click(".view-heat .frame")
    small = shown.script("return document.querySelector('.view-heat .stack').offsetWidth")
    large = shown.script("return document.querySelector('dialog .stack').offsetWidth")
    assert shown.script("return document.querySelector('dialog').open") and large > 2 * small
    assert "enlarged=heat" in shown.address()
    shown.press(Keys.ESCAPE, "dialog .close")
    assert not shown.script("return document.querySelector('dialog').open")
    assert "enlarged" not in shown.address()
    shown.press("e")
    assert shown.script("return document.querySelector('dialog').open")


# The threshold -----------------------------------------------------------------------------------


def python_numbers(written: pages.Written, name: str, threshold: float, kind: str | None) -> Any:
    metric = PixelMetrics(threshold=threshold)
    for plane, mask, of in zip(written.maps[name], written.masks, written.kinds, strict=True):
        if kind is None or of == kind:
            metric.update([plane], [mask])
    return metric.compute().scores


@pytest.mark.parametrize("name", ["latent attention", "reconstruction error"])
def test_the_numbers_at_a_threshold_are_those_of_python(shown: Shown, name: str) -> None:
    shown.choose("map", name)
    seen = set()
    for place in (30, 120, 260, 400, 555, 700, 901):
        shown.slide("threshold", place)
        threshold = shown.script("return captumVae.thresholds.value()")
        expected = python_numbers(shown.written, name, threshold, None)
        for ours, theirs in (
            ("IoU", "iou"),
            ("false-positive-rate", "false_positive_rate"),
            ("recall", "recall"),
            ("F1", "f1"),
        ):
            assert shown.number(ours) == expected[theirs].value, (threshold, ours)
        number = shown.written.names.index(shown.chosen())
        plane = shown.written.maps[name][number].double()
        called = plane >= threshold
        mask = shown.written.masks[number]
        assert mask is not None
        assert float(shown.fact("called")) == float(called.double().mean())
        assert float(shown.fact("false positive rate")) == int((called & ~mask).sum()) / int(
            (~mask).sum()
        )
        seen.add(threshold)
    assert len(seen) == 7


@pytest.mark.slow
def test_named_thresholds_are_exact_and_offered_first(shown: Shown) -> None:
    assert shown.options("named") == ["another", "calibrated: 1 in 100", "oracle"]
    assert shown.script("return captumVae.thresholds.value()") == 0.37
    expected = python_numbers(shown.written, "latent attention", 0.37, None)
    assert shown.number("IoU") == expected["iou"].value
    shown.choose("named", "oracle")
    assert shown.script("return captumVae.thresholds.value()") == 0.5
    assert (
        shown.number("IoU")
        == python_numbers(shown.written, "latent attention", 0.5, None)["iou"].value
    )


@pytest.mark.slow
def test_a_kind_has_numbers_of_its_own(shown: Shown) -> None:
    shown.choose("kind", "hole")
    expected = python_numbers(shown.written, "latent attention", 0.37, "hole")
    assert shown.number("IoU") == expected["iou"].value
    assert "of kind hole" in shown.element("#counted-over").text


@pytest.mark.slow
def test_the_mask_that_is_drawn_follows_the_threshold(shown: Shown) -> None:
    """Pixels of the called view are orange or found exactly where the map reaches the threshold."""
    import io

    import numpy as np
    from PIL import Image

    shares = []
    for place in (300, 500, 800):
        shown.slide("threshold", place)
        picture = Image.open(io.BytesIO(shown.picture(".view-called .stack"))).convert("RGB")
        picture = picture.resize((pages.SIDE, pages.SIDE), Image.Resampling.NEAREST)
        red, _, blue = np.asarray(picture).astype(int).transpose(2, 0, 1)
        number = shown.written.names.index(shown.chosen())
        plane = shown.written.maps["latent attention"][number].double().numpy()
        threshold = shown.script("return captumVae.thresholds.value()")
        level = (plane.max() - plane.min()) / 256
        surely = np.abs(plane - threshold) > 1.5 * level
        agree = (red > blue + 15) == (plane >= threshold)
        shares.append(agree[surely].mean())
    assert min(shares) > 0.97, shares


@pytest.mark.slow
def test_outlines_and_curves_follow_the_threshold(shown: Shown) -> None:
    from selenium.webdriver.common.keys import Keys

    def point() -> list[str]:
        return shown.script(
            "return [...document.querySelectorAll('.point')].map(p => "
            "p.getAttribute('cx') + ' ' + p.getAttribute('cy'))"
        )

    before = point(), shown.picture(".view-overlay .stack")
    assert len(before[0]) == 2
    shown.press(Keys.ARROW_RIGHT, "#threshold")
    for _ in range(40):
        shown.element("#threshold").send_keys(Keys.ARROW_RIGHT)
    browser.settled(shown.driver)
    after = point(), shown.picture(".view-overlay .stack")
    assert before[0] != after[0] and before[1] != after[1]
    shown.press(",")
    assert point() != after[0]
    with_outline = shown.picture(".view-overlay .stack")
    shown.click("#outline")
    assert shown.picture(".view-overlay .stack") != with_outline
    fpr = shown.number("false-positive-rate")
    label = shown.script("return document.querySelector('.chart').getAttribute('aria-label')")
    assert f"{fpr:.4g}"[:5] in label


@pytest.mark.slow
def test_a_threshold_is_typed(shown: Shown) -> None:
    shown.enter("threshold-number", "0.6")
    value = shown.script("return captumVae.thresholds.value()")
    assert 0.595 <= value <= 0.6
    assert (
        shown.number("IoU")
        == python_numbers(shown.written, "latent attention", value, None)["iou"].value
    )


# Links, keys, names ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_link_restores_the_view(chromium: Any, defects: pages.Written) -> None:
    page = Shown(chromium, defects)
    page.choose("map", "reconstruction error")
    page.choose("sort", "error")
    page.choose("kind", "scratch")
    page.choose("colors", "cividis")
    page.click("#scale-own")
    page.slide("opacity", 0.4)
    page.slide("threshold", 444)
    page.element("#name").send_keys("0")
    page.press("j", ".grid")
    before = page.script("return JSON.stringify(captumVae.state.now)")
    link = "#" + page.address().partition("#")[2]
    again = Shown(chromium, defects, link)
    assert again.script("return JSON.stringify(captumVae.state.now)") == before
    assert again.element("#colors").get_attribute("value") == "cividis"


@pytest.mark.parametrize("size", [(2000, 3), (3, 2000), (1, 1)], ids=["tall", "wide", "point"])
def test_pictures_of_any_shape_fit_the_page(
    chromium: Any, tmp_path: Path, size: tuple[int, int]
) -> None:
    with Explorer(tmp_path, title="shapes") as page:
        page.add(torch.rand(1, *size), name="one", maps={"map": torch.rand(size)})
    browser.show(chromium, tmp_path / "index.html")
    browser.ready(chromium)
    for css in (".views .stack", ".card .stack"):
        width, height = chromium.execute_script(
            "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [box.width, box.height]",
            css,
        )
        assert width >= 2 and 2 <= height < 900, (css, width, height)
    assert browser.errors(chromium) == []


def test_a_slider_that_is_dragged_writes_few_addresses_and_the_last(shown: Shown) -> None:
    # Safari refuses more than 100 in 30 seconds, Firefox 200 in 10.
    written, seconds = shown.driver.execute_async_script(
        """
        const done = arguments[0], slide = document.getElementById("threshold");
        const replace = history.replaceState.bind(history);
        const start = performance.now();
        let written = 0, at = 0;
        history.replaceState = (...values) => { written += 1; replace(...values); };
        const drag = setInterval(() => {
          slide.value = 300 + at;
          slide.dispatchEvent(new Event("input"));
          if (++at < 60) return;
          clearInterval(drag);
          setTimeout(() => done([written, (performance.now() - start) / 1000]), 400);
        }, 5);
        """
    )
    assert 1 <= written <= 2 + 3 * seconds
    chosen = shown.script("return captumVae.state.now.threshold")
    assert f"threshold={chosen}" in shown.address()


@pytest.mark.slow
@pytest.mark.parametrize(
    "link",
    [
        "#image=999&dim=-1&map=7&opacity=9&colors=__proto__&sort=constructor",
        "#kind=__proto__&view=toString&threshold=NaN&from=&to=x&%E0%A4%A",
        "#name=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
    ],
)
def test_a_link_of_nonsense_opens_the_page(chromium: Any, defects: Any, link: str) -> None:
    page = Shown(chromium, defects, link)
    assert page.views()
    assert browser.errors(chromium) == []


@pytest.mark.slow
def test_keys_do_nothing_while_somebody_types_or_once_switched_off(shown: Shown) -> None:
    before = shown.chosen()
    shown.element("#name").send_keys("j0")
    browser.settled(shown.driver)
    shown.element("#name").clear()
    assert shown.chosen() == before
    shown.click(".keys summary")
    shown.click("#keys")
    shown.press("j")
    assert shown.chosen() == before


HOSTILE = {
    **NAMES,
    "image tag": "<img src=x onerror=\"document.title='run'\">",
    "script": "</script><script>document.title='run'</script>",
    "quote": "');document.title='run';('",
    "address": "javascript:document.title='run'",
    "prototype": "__proto__",
    "style": "url(http://127.0.0.1:9/leak.png)",
    "comment": "<!-- --><svg/onload=document.title='run'>",
    "line separators": "a\u2028document.title='run'\u2029b",
}


def test_hostile_names_are_text_and_run_nothing(chromium: Any, tmp_path: Path) -> None:
    names = dict(enumerate(HOSTILE.values()))
    kinds = ("<b>good</b>", "__proto__", "constructor\" onclick='x'", "url(http://127.0.0.1:9/k)")
    written = pages.defects(
        tmp_path, count=len(names), names=names, kinds=kinds, title="<script>title</script>"
    )
    page = Shown(chromium, written)
    for kind in page.options("kind")[1:]:
        page.choose("kind", kind)
        assert len(page.cards()) > 0
        assert "of kind" in page.element("#counted-over").text
    page.choose("kind", "all")
    page.choose("sort", "name")
    for image in range(len(names)):
        page.script("captumVae.state.set({image: arguments[0], enlarged: 'heat'})", image)
        browser.settled(page.driver)
        page.script("captumVae.state.set({enlarged: null})")
    assert chromium.title == "<script>title</script>"
    assert browser.errors(chromium) == []
    assert leaving(chromium) == []
    assert page.script("return document.querySelectorAll('#explorer script').length") == 0
    shown = page.script("return captumVae.data.names")
    assert "</script><script>document.title='run'</script>" in shown


@pytest.mark.slow
def test_only_the_files_of_what_is_in_sight_are_asked_for(chromium: Any, tmp_path: Path) -> None:
    written = pages.defects(tmp_path, count=200)
    page = Shown(chromium, written)
    asked = browser.requests(chromium)
    parts = {a for a in asked if a.endswith("part.js")}
    assert 1 <= len([a for a in asked if "map-0.png" in a]) < 80
    assert len([a for a in asked if "map-1.png" in a]) == 0
    page.script("document.querySelector('.grid').scrollTop = 1e6")
    browser.settled(page.driver)
    browser.wait_for(page.driver, "document.querySelectorAll('.card .layer').length > 10")
    assert len([a for a in browser.requests(chromium) if "map-0.png" in a]) > 5
    assert len(page.cards()) < 80
    assert parts


# Without scripts, on paper, on a phone -----------------------------------------------------------


def test_without_javascript_the_page_shows_pictures_tables_and_says_so(
    defects: pages.Written,
) -> None:
    from tests.report.page_check import Page

    assert Page(defects.page).faults == []
    with browser.opened(scripts=False) as driver:
        browser.show(driver, defects.page)
        text = driver.find_element("css selector", "main").text
        assert "With JavaScript" in text and "24 of 40 images" in text and "Table" in text
        pictures = driver.find_elements("css selector", "section.still img")
        assert len(pictures) == 3
        assert all(picture.is_displayed() for picture in pictures)
        assert driver.find_element("css selector", "#explorer").size["height"] == 0
        for picture in pictures:
            assert "good/" in picture.get_attribute("alt") or "/" in picture.get_attribute("alt")


@pytest.mark.slow
def test_paper_holds_whole_pictures_and_no_controls(shown: Shown) -> None:
    driver = shown.driver
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not shown.element(".controls").is_displayed()
        assert not shown.element(".grid").is_displayed()
        assert shown.element(".view-overlay .stack").is_displayed()
        assert shown.element("section.still img").is_displayed()
        width = shown.script("return document.documentElement.clientWidth")
        for css in (".view .stack", "section.still img"):
            right = shown.script(
                "return Math.max(...[...document.querySelectorAll(arguments[0])]"
                ".map(e => e.getBoundingClientRect().right))",
                css,
            )
            assert right <= width
        assert (
            shown.script(
                "return getComputedStyle(document.querySelector('.view-heat .layer'))"
                ".printColorAdjust"
            )
            == "exact"
        )
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.slow
def test_paper_holds_whole_tables(chromium: Any, tmp_path: Path) -> None:
    names = ["model", "gamma", "seeds", *(f"way {n}" for n in range(7))]
    intervals = ["2643.818 [457.186, 4830.450]", *["0.009 [-0.085, 0.083]"] * 3]
    cells = [["AD-FactorVAE (paper)", "40", "2", *intervals, *["0.123"] * 3]] * 40
    page = write_page(
        tmp_path / "index.html",
        title="What was measured",
        lead="",
        sections=[Section("Measured", ["Of many models."], tables=[Table(names, cells)])],
    )
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        # The width of A4 within the page's margins, 178 mm.
        browser.show(chromium, page, width=673, height=1000)
        table = "document.querySelector('table')"
        assert chromium.execute_script(f"return {table}.getBoundingClientRect().right") <= 673
        # A table longer than a page begins where its heading stands.
        assert chromium.execute_script(f"return getComputedStyle({table}).breakInside") == "auto"
        row = f"getComputedStyle({table}.querySelector('tr'))"
        assert chromium.execute_script(f"return {row}.breakInside") == "avoid"
    finally:
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DEFECTS, DIMENSIONS])
def test_nothing_is_cut_off_at_400_pixels(
    chromium: Any, kind: str, request: pytest.FixtureRequest
) -> None:
    written: pages.Written = request.getfixturevalue(kind)
    browser.show(chromium, written.page, width=400, height=800)
    browser.ready(chromium)
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 400
    outside = chromium.execute_script(
        "return [...document.querySelectorAll('#explorer *')].filter(e => {"
        "const b = e.getBoundingClientRect();"
        "return b.width && b.right > 401 && !e.closest('.traversal, .grid, svg, .stack, .wide');"
        "}).map(e => e.className || e.tagName)"
    )
    assert outside == []


# Accessibility -----------------------------------------------------------------------------------


def axe_source() -> str:
    path = os.environ.get("CAPTUM_VAE_AXE", "")
    if not path:
        axe = pytest.importorskip(
            "axe_selenium_python", reason="axe-core is not installed: pip install '.[test]'"
        )
        path = str(Path(axe.__file__).parent / "node_modules" / "axe-core" / "axe.min.js")
    if not Path(path).is_file():
        pytest.skip(f"no axe-core at {path}")
    source = Path(path).read_text(encoding="utf-8")
    if not source.startswith("/*! axe v4"):
        pytest.skip(f"{path} is older than 4; `npm pack axe-core`, and name it in CAPTUM_VAE_AXE")
    return source


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", [DEFECTS, DIMENSIONS])
def test_axe_finds_nothing_serious(
    chromium: Any, kind: str, dark: bool, request: pytest.FixtureRequest
) -> None:
    source = axe_source()
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    try:
        page = Shown(chromium, request.getfixturevalue(kind))
        assert serious(chromium, source) == []
        page.press("e")
        assert serious(chromium, source) == []
    finally:
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_axe_finds_nothing_serious_on_a_page_without_explorer(
    chromium: Any, width: int, tmp_path: Path
) -> None:
    source = axe_source()
    figure = draw_map_grid(
        [GridRow("digits", [Strip([pages.photograph(n) for n in range(12)])])] * 2,
        column_titles=[[f"digit {n}" for n in range(12)]],
        bar_label="value",
    )
    picture = Picture(save_picture(figure, tmp_path / "wide.png"), "twelve digits", "A caption.")
    cells = [["a claim of many words", "its source", "0.123 [0.100, 0.150]"] * 3] * 4
    commit = "captum_vae, commit " + "0123456789abcdef" * 3
    page = write_page(
        tmp_path / "index.html",
        title="What was measured",
        lead="A page of tables and pictures.",
        sections=[
            Section("Claims", tables=[Table([f"column {n}" for n in range(9)], cells)]),
            Section("Figures", ["Text."], pictures=[picture], code="captum-vae demo"),
        ],
        footer=commit,
    )
    browser.show(chromium, page, width=width)
    assert serious(chromium, source) == []
    # What is wide scrolls by itself, and its smallest words stay legible.
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
    shown = chromium.execute_script("return document.querySelector('img').clientWidth")
    assert shown >= min(figure.get_figwidth() * 74 - 1, 1280)


def serious(driver: Any, source: str) -> list[tuple[str, str, str]]:
    """What axe-core finds of impact serious or critical: rule, element, what is wrong."""
    # Evaluated by the debugger, since the page's own policy forbids scripts in line.
    driver.execute_cdp_cmd("Runtime.evaluate", {"expression": source})
    found = driver.execute_cdp_cmd(
        "Runtime.evaluate",
        {
            "expression": "axe.run(document, {resultTypes: ['violations']}).then(r => "
            "JSON.stringify(r.violations))",
            "awaitPromise": True,
            "returnByValue": True,
        },
    )
    import json

    return [
        (violation["id"], node["html"][:120], node["failureSummary"][:300])
        for violation in json.loads(found["result"]["value"])
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"][:3]
    ]
