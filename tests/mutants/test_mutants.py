"""Every defect can be put in and names a test that is there; some are caught here, all of them by `make mutants`."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.mutants.defects import DEFECTS, Defect
from tests.mutants.running import ROOT, applied, caught

QUICK = [defect for defect in DEFECTS if defect.quick]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_applies_and_its_test_is_there(defect: Defect) -> None:
    """The text that it changes is in its file once, what comes of it is Python, and its test has that name."""
    assert defect.new != defect.old
    ast.parse(applied(defect))
    file, _, name = defect.test.partition("::")
    found = {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}
    assert name in found if name else any(each.startswith("test_") for each in found)


def test_no_two_defects_have_one_name() -> None:
    """They are called by it."""
    assert [name for name, count in Counter(defect.name for defect in DEFECTS).items() if count > 1] == []


@pytest.mark.parametrize("defect", QUICK, ids=lambda defect: defect.name)
def test_a_defect_is_caught(defect: Defect) -> None:
    """Its test fails with it in place."""
    assert caught(defect) == ""
