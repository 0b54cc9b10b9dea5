"""Whether rows of an upsert have different keys, so that the server need not look for the last one of each."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from consumer.table import TableRows
from consumer.vector import Numbers, values_of


def distinct(rows: TableRows, key: Sequence[int]) -> bool:
    """Whether no two of the rows have the same values in the columns at these places.

    The server may hold values equal that differ here, as a collation that ignores case does: ON CONFLICT then says so.
    """
    if rows.vectors:
        vectors = [rows.vectors[place] for place in key]
        if len(vectors) == 1 and isinstance(vectors[0], Numbers):
            return len(np.unique(vectors[0].values)) == len(rows.rows)
        return len(set(zip(*map(values_of, vectors), strict=True))) == len(rows.rows)
    try:
        return len(set(map(itemgetter(*key), rows.rows))) == len(rows.rows)
    except TypeError:  # lists and the like have no hash
        return False
