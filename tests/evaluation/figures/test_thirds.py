import json
from dataclasses import replace

import numpy as np
import pytest

from data_partition.batches import FrameRef
from evaluation.figures.thirds import motion_percent, thirds, thirds_table
from evaluation.measurement import Measurement
from evaluation.pairs import EvaluationPair, Protocol
from tests.support.shards import write_random_shard


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """Frame f is moved right by f pixels; the outer eye corners are 16 px apart."""
    shard = write_random_shard(tmp_path_factory.mktemp("dataset"), "ana")
    landmarks_FKC = np.zeros((40, 68, 2), np.float32)
    landmarks_FKC[:, 45] = [16, 0]
    return replace(shard, landmarks_FKC=landmarks_FKC + np.arange(40)[:, None, None] * np.array([1, 0]))


def measurement(shard, row: int, method: str = "model", protocol=Protocol.SELF, **values: float) -> Measurement:
    pair = EvaluationPair(protocol, FrameRef(shard, 0), FrameRef(shard, row))
    nothing = np.zeros(1, np.float32)
    return Measurement(
        pair=pair,
        method=method,
        values=values,
        driving=None,
        generated=None,
        has_source_face=True,
        features_D=nothing,
        real_features_D=nothing,
    )


def test_motion_is_in_percent_of_the_driving_eye_distance_at_any_size(shard):
    pair = EvaluationPair(Protocol.SELF, FrameRef(shard, 0), FrameRef(shard, 4))
    assert motion_percent(pair) == pytest.approx(25)
    larger = replace(shard, size_px=64, landmarks_FKC=(shard.landmarks_FKC + 0.5) * 2 - 0.5)
    assert motion_percent(pair._replace(driving=FrameRef(larger, 4))) == pytest.approx(25)


def test_thirds_are_of_equal_size_by_motion_with_the_baseline_beside(shard, analyser):
    found = [measurement(shard, row, psnr_db=30 - row, csim=0.9, fold_percent=row) for row in (6, 1, 4, 3, 2, 5)]
    found += [measurement(shard, row, "copy-source", psnr_db=20 - row, csim=1.0) for row in range(1, 7)]
    rows = thirds(found)
    json.dumps(rows, allow_nan=False)
    assert [(row["third"], row["num_pairs"]) for row in rows] == [("smallest", 2), ("middle", 2), ("largest", 2)]
    assert [row["psnr_db"] for row in rows] == [28.5, 26.5, 24.5]
    assert [row["psnr_db_of_copy"] for row in rows] == [18.5, 16.5, 14.5]
    assert (rows[2]["low_percent"], rows[2]["high_percent"]) == pytest.approx((31.25, 37.5))
    table = thirds_table(rows, analyser.backends)
    assert table.rows[0] == ("self", "smallest", "6.2 to 12.5", "2", "28.50", "18.50", "0.900", "1.000", "1.50")


def test_figures_that_a_protocol_has_not_are_empty(shard, analyser):
    rows = thirds([measurement(shard, 1, protocol=Protocol.CROSS, csim=np.nan)])
    assert [row["num_pairs"] for row in rows] == [1] and rows[0]["csim"] is None
    assert thirds_table(rows, analyser.backends).rows[0][4:] == ("-",) * 5


def test_thirds_of_an_older_evaluation_have_no_figures_that_came_later(shard, analyser):
    rows = [dict(row) for row in thirds([measurement(shard, 1, psnr_db=20.0, csim=0.5)])]
    for row in rows:
        del row["csim_of_copy"], row["fold_percent"]
    assert thirds_table(rows, analyser.backends).rows[0][4:] == ("20.00", "-", "0.500", "-", "-")
