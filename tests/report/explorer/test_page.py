"""The explorer in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.explorer import browser, pages


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


def leaving(driver: Any) -> list[str]:
    """Addresses that were asked for outside the file system."""
    return [
        address
        for address in browser.requests(driver)
        if not address.startswith(("file:", "about:"))
    ]


@pytest.mark.parametrize("kind", ["defects", "dimensions"])
def test_a_page_opens_without_an_error_and_asks_no_server(
    chromium: Any, kind: str, request: pytest.FixtureRequest
) -> None:
    written: pages.Written = request.getfixturevalue(kind)
    browser.show(chromium, written.page)
    browser.ready(chromium)
    assert browser.errors(chromium) == []
    assert leaving(chromium) == []
    shown = chromium.execute_script("return document.querySelectorAll('.card').length")
    assert shown >= 12


def test_a_page_is_whole_without_its_scripts(defects: pages.Written, tmp_path: Path) -> None:
    from tests.report.page_check import Page

    page = Page(defects.page)
    assert page.faults == []
    assert page.pictures
