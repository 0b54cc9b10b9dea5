"""What the process does with memory that it no longer needs."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_LEFT = """
import gc
from pathlib import Path
from consumer import memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

settle and memory.settle()
before = resident()
for _ in range(2):  # the first one that is freed makes glibc change its mind
    large, small = [], []
    for _ in range(100):
        large.append(bytearray(1_000_000))
        small.append(bytearray(5000))
    del large
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do otherwise")
@pytest.mark.parametrize(("settle", "least", "most"), [(True, -5_000_000, 5_000_000), (False, 20_000_000, 250_000_000)])
def test_large_blocks_go_back_to_the_system(settle: bool, least: int, most: int) -> None:
    """Also where small ones, which stay, came between them; without `settle` they do not."""
    code = f"settle = {settle}\n{_LEFT}"
    left = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert least <= int(left) <= most
