"""Rows of various columns into TableRows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.mapping.arrange import Arranger, Item

NAMES = st.sampled_from([("k", "a"), ("k", "b"), ("k", "a", "b"), ("k",)])


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    found = []
    for ordinal in range(draw(st.integers(1, 30))):
        names, delete = draw(NAMES), draw(st.booleans())
        values = (draw(st.sampled_from([1, 2, 3, "x", "X "])), *[ordinal] * (len(names) - 1))
        found.append(Item(("k",), values[:1], ordinal, True) if delete else Item(names, values, ordinal))
    return found


def key_of(value: object) -> object:
    return value.strip().casefold() if isinstance(value, str) else value


@given(items())
def test_rows_of_one_key_stay_in_order_and_none_is_lost(given_items: list[Item]) -> None:
    """Applied one TableRows after the other, each key sees its rows as they came."""
    found = Arranger("t", ("k",)).arrange(given_items)
    seen: dict[object, list[int]] = {}
    for part in found:
        assert part.ordinals == sorted(part.ordinals)
        for row, ordinal in zip(part.rows, part.ordinals, strict=True):
            seen.setdefault(key_of(row[part.columns.index("k")]), []).append(ordinal)
    expected: dict[object, list[int]] = {}
    for item in given_items:
        expected.setdefault(key_of(item.values[0]), []).append(item.ordinal)
    assert seen == expected


@given(items())
def test_rows_are_what_they_were(given_items: list[Item]) -> None:
    """Values and deletes are those of the items; a deleting row has None in what it does not give."""
    kept = {}
    for part in Arranger("t", ("k",)).arrange(given_items):
        for index, (row, ordinal) in enumerate(zip(part.rows, part.ordinals, strict=True)):
            delete = bool(part.deletes and part.deletes[index])
            given = {name: value for name, value in zip(part.columns, row, strict=True) if value is not None}
            kept[ordinal] = (given, delete)
    assert kept == {i.ordinal: (dict(zip(i.names, i.values, strict=True)), i.delete) for i in given_items}


def test_without_a_key_the_same_columns_come_together() -> None:
    """Inserts need no order, so each set of columns is one COPY."""
    found = Arranger("t").arrange([Item(("a",), (1,), 0), Item(("b",), (2,), 1), Item(("a",), (3,), 2)])
    assert [(part.columns, part.ordinals) for part in found] == [(("a",), [0, 2]), (("b",), [1])]


def test_other_columns_of_other_keys_need_no_new_start() -> None:
    """Optional fields cost one group each, not one for every change between neighbours."""
    many = [Item(("k", "a") if n % 2 else ("k", "b"), (n, n), n) for n in range(100)]
    assert len(Arranger("t", ("k",)).arrange(many)) == 2
