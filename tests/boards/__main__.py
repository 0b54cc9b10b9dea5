"""Write the boards, each into its file of a folder: of deploy/grafana, or of the one that is given."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tests.boards import instance, letters, overview

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
BOARDS = {
    "overview.json": overview.board,
    "instance.json": instance.board,
    "dead-letters.json": letters.board,
}


def main(folder: Path = FOLDER) -> None:
    """Those that are there already are replaced."""
    folder.mkdir(exist_ok=True)
    for name, make in BOARDS.items():
        board = make().build()
        for number, panel in enumerate(board.panels or (), 1):
            panel.id_val = number  # by which links find it
        text = JSONEncoder(sort_keys=True, indent=2).encode(board)
        (folder / name).write_text(f"{text}\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
