import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from data_partition.faces.action_units import lip_gap
from evaluation.faces.analysis import RememberingAnalyser
from evaluation.figures.bootstrap import estimate
from evaluation.figures.pooling import Pooling
from evaluation.figures.summary import EVERYBODY, summarise
from evaluation.figures.tables import (
    action_unit_agreement,
    identity_tables,
    measurements_csv,
    method_tables,
    rows_to_plain,
)
from evaluation.measurement import COPY_DRIVING, COPY_SOURCE, Drawn, baselines, frame_at, measure
from evaluation.metrics.faces import aucon, csim, prmse_deg
from evaluation.metrics.kid import kid
from evaluation.metrics.pixels import l1, psnr_db, ssim
from evaluation.metrics.regions import cut_out
from evaluation.metrics.sharpness import fine_power, laplacian_energy
from evaluation.pairs import Protocol, draw_pairs
from model.progress import no_progress
from tests.evaluation.conftest import instruments_with, mean_colour
from tests.support.shards import write_random_shard

SIZE = 32


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    return [write_random_shard(root, name, seed=seed) for seed, name in enumerate(("ana", "ben"))]


def some_pairs(shards):
    return [pair for protocol in Protocol for pair in draw_pairs(protocol, shards, num_pairs=4, seed=0)]


def measured(pairs, analyser, **methods):
    return measure(
        pairs,
        methods or baselines(SIZE),
        instruments_with(analyser),
        size_px=SIZE,
        progress=no_progress,
    )


def darkened(pair):
    return Drawn(frame_at(pair.driving, SIZE) // 2, fold_percent=2.5)


def test_values_are_those_of_the_metrics_on_the_frames(shards, analyser):
    pair = some_pairs(shards)[0]
    found = measured([pair], analyser, model=darkened)[0]
    source, driving = frame_at(pair.source, SIZE), frame_at(pair.driving, SIZE)
    faces = [analyser.analyse(frame) for frame in (source, driving, driving // 2)]
    assert found.values["csim"] == csim(faces[0], faces[2])
    assert found.values["prmse_deg"] == prmse_deg(faces[1], faces[2])
    assert found.values["psnr_db"] == psnr_db(driving, driving // 2)
    assert found.values["fold_percent"] == 2.5
    assert found.values["ssim"] == ssim(driving, driving // 2)
    assert found.values["l1"] == l1(driving, driving // 2)
    assert found.values["perceptual"] == l1(driving, driving // 2) / 2
    assert found.values["sharpness_whole_real"] == laplacian_energy(driving)
    assert found.values["sharpness_whole_generated"] == laplacian_energy(driving // 2)
    looks = zip((driving, driving // 2), faces[1:], strict=True)
    mouths = [cut_out(frame, face.landmarks_KC, "mouth") for frame, face in looks]
    columns = ("fine_power_mouth_real", "fine_power_mouth_generated")
    assert [found.values[column] for column in columns] == [fine_power(mouth) for mouth in mouths]
    assert [found.values[f"lip_gap_{which}"] for which in ("real", "generated")] == [
        lip_gap(face.landmarks_KC) for face in faces[1:]
    ]
    np.testing.assert_array_equal(found.features_D, mean_colour(driving // 2))
    np.testing.assert_array_equal(found.real_features_D, mean_colour(driving))


def test_copies_score_what_a_cheat_would(shards, analyser):
    for found in measured(some_pairs(shards), analyser):
        if found.method == COPY_SOURCE:
            assert found.values["csim"] == pytest.approx(1)
        else:
            assert found.method == COPY_DRIVING and not found.pair.protocol.has_truth
            assert (found.values["prmse_deg"], found.values["aucon"]) == (0, 1)


def test_pixels_are_not_compared_where_the_driving_frame_shows_somebody_else(shards, analyser):
    cross = [found for found in measured(some_pairs(shards), analyser) if found.pair.protocol is Protocol.CROSS]
    assert not {"psnr_db", "ssim", "l1", "perceptual"} & cross[0].values.keys()
    table = method_tables(summarise(cross, seed=0), analyser.backends)[0]
    assert not any(row[0].startswith(("PSNR", "Landmark")) for row in table.rows)


@pytest.mark.integration
def test_order_of_the_pairs_changes_no_value(shards, analyser):
    pairs = some_pairs(shards)
    forward, backward = (summarise(measured(order, analyser), seed=0) for order in (pairs, pairs[::-1]))
    key = lambda row: (row.protocol, row.identity, row.method)  # noqa: E731
    assert sorted(forward, key=key) == sorted(backward, key=key)


def test_shuffled_aucon_is_the_mean_over_the_other_driving_frames_of_the_person(shards, analyser):
    pairs = [pair for pair in some_pairs(shards) if pair.protocol is Protocol.CROSS]
    for found in measured(pairs, analyser, model=darkened):
        driver = found.pair.driving
        others = {p.driving.row for p in pairs if p.driving.shard is driver.shard} - {driver.row}
        faces = [analyser.analyse(frame_at(driver._replace(row=row), SIZE)) for row in sorted(others)]
        expected = np.mean([aucon(face, found.generated, analyser.evaluated_aus) for face in faces])
        assert found.values["aucon_shuffled"] == pytest.approx(expected)


def test_a_result_without_a_face_is_a_failure_and_not_a_value(shards, analyser):
    pairs = draw_pairs(Protocol.SELF, shards, num_pairs=4, seed=0)
    black = {pair.cells() for pair in pairs[:2]}
    found = measured(pairs, analyser, model=lambda pair: Drawn(darkened(pair).frame * (pair.cells() not in black)))
    row = summarise(found, seed=0)[0]
    assert (row.identity, row.faces.num_pairs, row.faces.num_without_generated) == (EVERYBODY, 8, 2)
    assert row.figures["csim"].num_pairs == 6 and row.figures["l1"].num_pairs == 8
    table = method_tables([row], analyser.backends)[0]
    assert table.rows[-1] == ("No face found (Colour)", "25.0 %")


def test_intervals_resample_whole_seconds_of_driving_frames(shards, analyser):
    spread = [replace(shard, timestamp_s=shard.timestamp_s * 8) for shard in shards]  # a frame each .32 s
    found = measured(draw_pairs(Protocol.SELF, spread, num_pairs=100, seed=0), analyser, model=darkened)
    drivings = [measurement.pair.driving for measurement in found]
    blocks = [int(frame.shard is spread[1]) * 1000 + int(frame.row * 8 / 25) for frame in drivings]
    assert 2 < len(set(blocks)) < len({(frame.shard.identity, frame.row) for frame in drivings})
    values = [measurement.values["l1"] for measurement in found]
    expected = estimate(values, pooling=Pooling.MEAN, seed=0, blocks_N=np.array(blocks))
    assert summarise(found, seed=0)[0].figures["l1"] == expected != estimate(values, pooling=Pooling.MEAN, seed=0)
    first = next(csv.DictReader(measurements_csv(found, analyser.backends).splitlines()))
    frame = drivings[0]
    assert (first["driving_clip"], first["driving_second"]) == (frame.shard.clip[frame.row], str(blocks[0] % 1000))


def test_every_picture_is_looked_at_once(shards, analyser):
    pairs = some_pairs(shards)
    measured(pairs, RememberingAnalyser(analyser))
    frames = {(frame.shard.identity, frame.row) for pair in pairs for frame in (pair.source, pair.driving)}
    assert analyser.num_looks == len(frames)


def test_tables_name_the_backend_and_hold_the_same_figures(shards, analyser):
    found = measured(draw_pairs(Protocol.SELF, shards, num_pairs=4, seed=0), analyser, model=darkened)
    rows = summarise(found, seed=0)
    assert [row.identity for row in rows] == [EVERYBODY, "ana", "ben"]
    plain = rows_to_plain(rows, analyser.backends)
    json.dumps(plain, allow_nan=False)
    assert plain[0]["metrics"]["csim"]["name"] == "CSIM (Colour)"
    mean = np.mean([measurement.values["csim"] for measurement in found])
    assert plain[0]["metrics"]["csim"]["value"] == pytest.approx(mean)
    table = method_tables(rows, analyser.backends)[0]
    assert table.rows[0][0] == "CSIM (Colour) ↑" and table.rows[0][1].startswith(f"{mean:.3f} [")
    assert "| CSIM (Colour) ↑ | " in table.to_markdown()
    assert [row[0] for row in identity_tables(rows, analyser.backends)[0].rows] == ["ana", "ben"]
    lines = measurements_csv(found, analyser.backends).splitlines()
    assert len(lines) == 1 + len(found) and "CSIM (Colour)" in lines[0]


def test_action_units_are_listed_one_by_one(shards, analyser):
    found = measured(draw_pairs(Protocol.SELF, shards, num_pairs=4, seed=0), analyser, model=darkened)
    table = action_unit_agreement(found, analyser.evaluated_aus)
    assert len(table) == 17 and "AU9" not in table
    assert np.mean([row["agreement"] for row in table.values()]) == pytest.approx(
        np.mean([measurement.values["aucon"] for measurement in found])
    )
    assert table["AU1"]["present_in_generated"] == 0  # halved values never pass the analyser's threshold


def test_detail_is_compared_with_the_source_where_there_is_no_truth(shards, analyser):
    cross = [pair for pair in some_pairs(shards) if pair.protocol is Protocol.CROSS]
    row = next(row for row in summarise(measured(cross, analyser), seed=0) if row.method == COPY_SOURCE)
    for key in ("sharpness_whole", "sharpness_eyes", "fine_power_mouth"):
        assert row.figures[key].value == pytest.approx(1)


@pytest.mark.integration
def test_copies_of_the_driving_frame_follow_every_lip_and_gaze(shards, analyser):
    found = measured(some_pairs(shards), analyser)
    row = next(row for row in summarise(found, seed=0) if row.method == COPY_DRIVING)
    assert row.figures["lip_gap"].value == pytest.approx(1)
    assert row.figures["gaze_error_percent"].value == row.figures["au_intensity_error"].value == 0


def test_kid_compares_with_every_real_frame_once(shards, analyser):
    pairs = draw_pairs(Protocol.SELF, shards, num_pairs=6, seed=0)
    found = measured(pairs, analyser, model=darkened)
    real = {(pair.driving.shard.identity, pair.driving.row): frame_at(pair.driving, SIZE) for pair in pairs}
    assert len(real) < len(pairs)
    figure = summarise(found, seed=0)[0].figures["kid"]
    expected = kid(
        np.stack([mean_colour(real[name]) for name in sorted(real)]),
        np.stack(sorted((item.features_D for item in found), key=lambda features_D: features_D.tobytes())),
        seed=0,
    )
    assert (figure.value, figure.sd) == expected
    table = method_tables(summarise(found, seed=0), analyser.backends)[0]
    (text,) = [row[1] for row in table.rows if row[0] == "KID (VGG-16 HED) ↓"]
    assert text == f"{expected[0]:.3f} ± {expected[1]:.3f}"
