"""A real headless Chromium for the tests of pages; tests skip with a reason where there is none."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NETWORK = "Network.requestWillBeSent"


def chromium() -> str:
    """The browser's path, or a skip that says what is missing."""
    pytest.importorskip("selenium", reason="selenium is not installed: pip install '.[test]'")
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found or not shutil.which("chromedriver"):
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    return found


@contextmanager
def opened(*, scripts: bool = True, dark: bool = False, port: str = "") -> Iterator[Any]:
    """A driver of a new browser; ``scripts=False`` switches JavaScript off."""
    binary = chromium()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    profile = tempfile.mkdtemp(prefix="captum-vae-chromium-")
    arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--force-device-scale-factor=1",
        f"--user-data-dir={profile}",
    ]
    if dark:
        arguments.append("--blink-settings=preferredColorScheme=0")
    for argument in arguments:
        options.add_argument(argument)
    if not scripts:
        options.add_experimental_option(
            "prefs", {"profile.managed_default_content_settings.javascript": 2}
        )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def show(driver: Any, page: Path, hash_: str = "", *, width: int = 1280, height: int = 900) -> None:
    """Open a page from the file system and wait for its explorer."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    driver.get("about:blank")
    errors(driver), requests(driver)  # those of other pages, such as the browser's own
    driver.get(page.resolve().as_uri() + hash_)


def wait_for(driver: Any, script: str, seconds: float = 20.0) -> Any:
    """The value of a JavaScript expression once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds, poll_frequency=0.02).until(
        lambda d: d.execute_script(f"return {script};")
    )


def ready(driver: Any) -> None:
    """Wait until the explorer has drawn the chosen image and the cards in sight."""
    wait_for(driver, "document.querySelector('#explorer').dataset.ready === 'yes'")
    settled(driver)


def settled(driver: Any) -> None:
    """Wait until what was asked for is drawn: two pictures of the screen, all images loaded."""
    driver.execute_async_script(
        "const done = arguments[0];"
        "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30)));"
    )
    wait_for(
        driver,
        "[...document.querySelectorAll('.views img')].every((i) => i.complete && i.naturalWidth)",
    )


def errors(driver: Any) -> list[str]:
    """What the console said since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]


def requests(driver: Any) -> list[str]:
    """The addresses that were asked for since the last call."""
    import json

    found = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == NETWORK:
            found.append(message["params"]["request"]["url"])
    return found


def picture(driver: Any, css: str) -> bytes:
    """A PNG of an element, at whole pixels of the page and independent of its scrolling."""
    import base64

    driver.execute_script("window.scrollTo(0, 0)")
    box = driver.execute_script(
        "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height].map(Math.floor)",
        css,
    )
    clip = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
    options = {"format": "png", "captureBeyondViewport": True, "clip": clip}
    return base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"])


def screenshot(driver: Any, path: Path, *, whole: bool = True) -> Path:
    """A PNG of the page, whole or as the window shows it."""
    import base64

    options: dict[str, Any] = {"format": "png", "captureBeyondViewport": whole}
    if whole:
        size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        options["clip"] = {"x": 0, "y": 0, "scale": 1, **{k: size[k] for k in ("width", "height")}}
    data = driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
    path.write_bytes(base64.b64decode(data))
    return path
