"""The site as it is built: nothing to complain about, every link leads somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs import ROOT, pages

_LOADING = re.compile(r"@import|url\(['\"]?(?:https?:)?//")


class _Page(HTMLParser):
    """What a page links to (`links`), what it loads (`loads`), and the anchors that it has (`anchors`)."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.add(given.get("id") or "")
        if href := given.get("href"):
            (self.links if tag == "a" else self.loads).append(href)
        if source := given.get("src"):
            self.loads.append(source)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with every warning an error, in a process of its own as `make docs` does it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", "-d", folder / "trees"]
    built = subprocess.run([*command, ".", folder / "html"], cwd=ROOT, capture_output=True, text=True)
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return folder / "html"


def test_every_page_is_in_it(site: Path) -> None:
    """Each file of Markdown that a user reads, and the way in at the top."""
    missing = [page for page in pages() if not (site / page.relative_to(ROOT).with_suffix(".html")).exists()]
    assert missing == []
    assert (site / "index.html").exists()


def test_every_link_leads_somewhere(site: Path) -> None:
    """To a file that is there, and to an anchor that it has."""
    found = {file: _Page(file) for file in site.rglob("*.html") if "_static" not in file.parts}
    broken = []
    for file, page in found.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            known = target in found and parts.fragment in found[target].anchors
            if not parts.scheme and not known and (parts.fragment or not target.is_file()):
                broken.append(f"{file.relative_to(site)}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """No fonts, scripts, styles or pictures of another site: it can be read without a network."""
    sheets = [sheet for sheet in site.rglob("*.css") if _LOADING.search(sheet.read_text())]
    assert sheets == []
    loads = [load for file in site.rglob("*.html") for load in _Page(file).loads]
    assert [load for load in loads if urlsplit(load).scheme not in ("", "data")] == []
