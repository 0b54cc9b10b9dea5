"""Write the parts of the reference that are made from the code: `python -m tests.docs`."""

from __future__ import annotations

from tests.docs import ROOT
from tests.docs.tables import PAGES, renewed

if __name__ == "__main__":
    for page in PAGES:
        file = ROOT / page
        file.write_text(renewed(page, file.read_text()))
