"""The documentation against the code: what is generated, what is shown, what is linked."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w*)\n((?s:.*?))^```$|(?<=\n\n)(?:^ {4}\S.*\n)+", re.MULTILINE)


class Block(NamedTuple):
    """Code that a page shows. `language` is that of its fence; an indented block has none."""

    page: str
    language: str
    text: str


def pages() -> list[Path]:
    """Every page of the site, README and all, as it lies in the repository."""
    folders = [ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "deploy").glob("*.md")]
    return sorted(page for folder in folders for page in folder)


def blocks(page: Path) -> list[Block]:
    """The blocks of code of a page, in order."""
    name = str(page.relative_to(ROOT))
    found = _BLOCK.finditer(page.read_text())
    return [Block(name, match[1] or "", match[2] or textwrap.dedent(match[0])) for match in found]
