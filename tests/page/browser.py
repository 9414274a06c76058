"""A real Chromium that looks at pages, and dashboards for it to look at."""

import contextlib
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.processes import PATIENCE, environment
from tests.missing import not_there

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
_COLOURS = 256
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium of this machine. Where there is none the test is skipped; with CI=true that is a failure."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        not_there(f"none of {', '.join(_NAMES)} is installed (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        # No sandbox: as root, as in containers, Chromium starts in no other way; it only sees our own page.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


class Dashboard:
    """`sidecar dashboard`, a process."""

    def __init__(self, home: Path, api: Path, *flags: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "dashboard", "--api", str(api), *flags],
            stdout=subprocess.PIPE,
            env=environment(home),
            text=True,
        )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert "http://" in line, "the dashboard did not start"
        self.link = line.split()[-1]
        self.origin, _, self.token = self.link.partition("/#")

    def close(self) -> None:
        self.popen.terminate()
        self.popen.wait(PATIENCE)
        assert self.popen.stdout is not None
        self.popen.stdout.close()


@contextlib.contextmanager
def dashboard(home: Path, api: Path, *flags: str) -> Iterator[Dashboard]:
    started = Dashboard(home, api, *flags)
    try:
        yield started
    finally:
        started.close()


class Visit:
    """A page that is open, and everything that it asked for or complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self._console(message))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.set_default_timeout(PATIENCE * 1000)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def until(self, expression: str) -> Any:
        """Look with each frame until this JavaScript is true of the page; its value.

        Playwright's own way evaluates strings in the page, which the page's policy forbids.
        """
        return self.page.evaluate(
            f"""() => new Promise((resolve, reject) => {{
                const end = performance.now() + {PATIENCE * 1000};
                const look = () => {{
                    const value = {expression};
                    if (value) resolve(value);
                    else if (performance.now() > end) reject(new Error("it does not come true"));
                    else setTimeout(look, 16);
                }};
                look();
            }})"""
        )

    def width(self) -> int:
        """How wide the document is; more than the window means that it scrolls sideways."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def picture(self, name: str, height: int) -> None:
        """Photograph the top of the page for the documentation, in few colours so that the file stays small."""
        IMAGES.mkdir(exist_ok=True)
        width = self.page.evaluate("innerWidth")
        data = self.page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})
        taken = Image.open(io.BytesIO(data)).convert("RGB")
        assert len(taken.getcolors(1 << 24) or ()) > 50, "something is drawn"
        taken.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            IMAGES / name, optimize=True
        )


@contextlib.contextmanager
def visit(
    browser: Browser, link: str, *, width: int = 1280, height: int = 900, scheme: Any = "light"
) -> Iterator[Visit]:
    """Open the link. At the end nothing may have been asked of anybody else, and nothing complained of."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    try:
        visited = Visit(context.new_page())
        visited.page.goto(link)
        yield visited
        origin = link.partition("/#")[0]
        assert [url for url in visited.requests if url != link and not url.startswith(f"{origin}/")] == []
        assert visited.complaints == []
    finally:
        context.close()
