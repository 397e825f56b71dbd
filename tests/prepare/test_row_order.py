"""Rows in order: equal to Python's sort of tuples and to the engine's order of names."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.prepare.row_order import is_new, is_sorted, order_of, ranks

names = st.lists(st.none() | st.text(max_size=3), max_size=12)
rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3)), max_size=12)


def keys_of(rows: list[tuple[int, ...]]) -> list[np.ndarray]:
    return list(np.array(rows, np.int64).reshape(-1, 3).T)


@given(rows=rows | rows.map(sorted))
def test_rows_are_sorted_as_tuples(rows):
    keys = keys_of(rows)
    numbers = np.arange(len(rows))[order_of(*keys)]
    assert [rows[n] for n in numbers] == sorted(rows)
    assert is_sorted(*keys) == (rows == sorted(rows))
    by_two = np.arange(len(rows))[order_of(*keys[:2])]
    assert by_two.tolist() == sorted(range(len(rows)), key=lambda n: rows[n][:2])  # equal ones stay


@given(rows=rows)
def test_a_row_is_new_where_any_key_changes(rows):
    expected = [n == 0 or rows[n] != rows[n - 1] for n in range(len(rows))]
    assert is_new(*keys_of(rows)).tolist() == expected


@pytest.fixture(scope="module")
def engine():
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


@given(names=names, cut=st.integers(0, 12))
def test_names_rank_as_in_sql(engine, names, cut):
    chunks = [pa.array(part, pa.string()) for part in (names[:cut], names[cut:])]
    column = pa.chunked_array(chunks)
    engine.register("named", pa.table({"number": range(len(names)), "name": column}))
    expected = engine.execute("select number from named order by name nulls first, number")
    assert np.argsort(ranks(column), kind="stable").tolist() == [n for (n,) in expected.fetchall()]
    assert [rank < 0 for rank in ranks(column)] == [name is None for name in names]
