"""Fitted quantities: test rows decide none of them, whichever baseline, whatever stands there."""

from __future__ import annotations

import shutil

import pyarrow.compute as pc
import pyarrow.parquet as pq
from helpers import masked_ships

from model.data.shards import Shards
from model.evaluation.fitted_baselines import EXPERTS, fitted_baselines
from model.evaluation.question import Judging
from model.evaluation.scores import scored

TASKS = masked_ships.TASKS


def test_other_rows_of_test_change_no_baseline(tmp_path):
    """Half of the test trips are taken out, and the others become those of other ships."""
    store, receipt, _ = masked_ships.trained("trajfm")
    whole = Shards.open(store.folder(receipt))
    shutil.copytree(whole.folder, tmp_path / "other")
    for path in (tmp_path / "other").glob("test-*.parquet"):
        trips = pq.read_table(path)
        kept = trips.slice(len(trips) // 2)
        moved = kept.set_column(
            kept.schema.get_field_index("entity_id"),
            "entity_id",
            pc.binary_join_element_wise(kept["entity_id"], "another", "-"),
        )
        path.unlink()
        pq.write_table(moved, path, write_page_checksum=True)
        windows = pq.read_table(whole.folder / "windows.parquet")
        is_kept = pc.or_(
            pc.not_equal(windows["split"], "test"), pc.is_in(windows["trip_id"], kept["trip_id"])
        )
        (tmp_path / "other" / "windows.parquet").unlink()
        pq.write_table(
            windows.filter(is_kept),
            tmp_path / "other" / "windows.parquet",
            write_page_checksum=True,
        )
    answers = [
        scored(
            whole,
            fitted_baselines(shards, TASKS, experts=sorted(EXPERTS)),
            "validation",
            Judging((1, 4), tasks=TASKS, num_bootstrap=0),
        ).window_errors
        for shards in (whole, Shards.open(tmp_path / "other"))
    ]
    assert len(set(answers[0]["model"].to_pylist())) > 12
    assert answers[0].equals(answers[1])
