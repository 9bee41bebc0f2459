"""Does a report open whole? ``python tests/report/page_check.py report.html``; standard library."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Pictures and links of a page, its text, and tags that are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.pictures: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.text = ""
        self.faults: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self._open]
        for picture in self.pictures:
            source = picture.get("src") or ""
            if Path(source).is_absolute() or "//" in source:
                self.faults.append(f"{source} is not relative")
            if not (path.parent / unquote(source, errors="surrogateescape")).is_file():
                self.faults.append(f"{source} is missing")
            if not picture.get("alt"):
                self.faults.append(f"{source} has no alt text")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.pictures.append(dict(attrs))
        if tag == "a":
            self.links.append(dict(attrs).get("href") or "")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()} closes nothing")

    def handle_data(self, data: str) -> None:
        self.text += data


if __name__ == "__main__":
    page = Page(Path(sys.argv[1]))
    if page.faults or not page.pictures:
        sys.exit(f"{page.path}: " + ("; ".join(page.faults) or "no pictures"))
    print(f"{page.path.name}: {len(page.pictures)} pictures, none missing")
