"""The package as `pip install .` makes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from tests.command import ROOT

PARTS = ("consumer", "schemas", "pyproject.toml", "README.md", "LICENSE")


def test_the_wheel_holds_every_module_and_schema(tmp_path: Path) -> None:
    """What an editable install finds in the clone, an installed wheel brings along."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for part in PARTS:
        source = Path(ROOT) / part
        if source.is_dir():
            shutil.copytree(source, clone / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, clone / part)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(clone)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    modules = {str(path.relative_to(clone)) for path in (clone / "consumer").rglob("*.py")}
    schemas = {f"consumer/schemas/{path.name}" for path in (clone / "schemas").iterdir()}
    assert {"consumer/schemas/order.avsc", "consumer/demo/orders.py"} <= modules | schemas
    with ZipFile(wheel) as archive:
        assert modules | schemas <= set(archive.namelist())
