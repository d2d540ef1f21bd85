"""An exported file draws as its checkpoint does, and tells of nobody."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_partition.consent.kinds import WithoutConsent
from data_partition.consent.withdrawal import mark_withdrawn
from data_partition.shards.images import read_image
from federation.settings import Settings
from model.checkpoint import Checkpoint, save_checkpoint
from model.designs.registry import build_networks
from model.errors import CheckpointError, ConfigError
from model.progress import no_progress
from reenact.exported import export as exporting
from reenact.exported.export import export
from reenact.exported.model import read_exported
from reenact.exported.packages import package
from reenact.exported.people import stand_ins
from reenact.guidance import estimated_statistics
from reenact.guidance_choice import Guidance
from reenact.movement import FULL, Strengths
from reenact.reenactor import Reenactor
from reenact.request import ReenactRequest
from reenact.studio import Studio, run_request
from tests.support.shards import write_random_shard
from tests.support.small_face import PART_SIZES, SMALL, small_checkpoint, small_face

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")
FULLEST = replace(
    SMALL,
    use_appearance_skip=True,
    use_landmark_flow=True,
    face_motion="spline",
    source_sampling="bicubic",
    num_sources=4,
    use_irises=True,
    lgan_base="closed",
)
"""All that the thesis does not have."""


def checkpoint_of(config) -> Checkpoint:
    """Weights of which none is zero, so that every branch shows in the picture, and a base."""
    tensors = build_networks(config, PART_SIZES, seed=0).travelling_tensors()
    rng = np.random.default_rng(1)
    tensors = {name: (value + rng.normal(0, 0.02, value.shape)).astype(np.float32) for name, value in tensors.items()}
    settings, names = Settings(model=config).to_flat(), ["person-ana", "person-ben"]
    return replace(small_checkpoint(), settings=settings, tensors=tensors, identities=names)


@pytest.fixture(scope="module", params=[SMALL, FULLEST], ids=["thesis", "fullest"])
def pair(request, tmp_path_factory):
    """A checkpoint, and its exported file with the report."""
    folder = tmp_path_factory.mktemp("exported")
    checkpoint = checkpoint_of(request.param)
    run = save_checkpoint(folder / "run", checkpoint).parent
    report = export(run, folder / "model.onnx")
    return checkpoint, report


def test_pictures_are_those_of_pytorch(pair):
    checkpoint, report = pair
    assert 0 < report.difference <= exporting.LARGEST_DIFFERENCE
    run, exported = Reenactor(checkpoint, CPU), Reenactor(read_exported(report.out), CPU)
    assert exported.num_sources == run.num_sources
    for num_results in (1, 4):
        for num_sources in (1, 3) if run.num_sources > 1 else (1,):
            faces = [small_face(seed) for seed in range(num_results)]
            sources = [[small_face(10 + index) for index in range(num_sources)]] * num_results
            targets = np.stack([face.landmarks_KC for face in faces])
            ours, theirs = (one.draw_from(sources, faces, targets) for one in (exported, run))
            for our, their in zip(ours, theirs, strict=True):
                assert list(our.stages) == list(their.stages)
                for ours_HWC, theirs_HWC in zip(
                    (our.result, *our.stages.values()), (their.result, *their.stages.values()), strict=True
                ):
                    assert np.abs(ours_HWC.astype(int) - theirs_HWC).max() <= 1
                np.testing.assert_allclose(our.flow_CHW, their.flow_CHW, atol=1e-3)


def test_strangers_are_guided_as_by_the_checkpoint(pair):
    checkpoint, report = pair
    run, exported = Reenactor(checkpoint, CPU), Reenactor(read_exported(report.out), CPU)
    assert exported.has_strengths == run.has_strengths
    weaker = Strengths(mouth=0.5) if run.has_strengths else FULL
    for requested, strengths in ((Guidance.AUTO, weaker), (Guidance.LST, FULL), (Guidance.DRIVING, FULL)):
        (ours, our_guidance), (theirs, their_guidance) = (
            one.draw_pair(small_face(0), small_face(1), requested, strengths) for one in (exported, run)
        )
        assert our_guidance is their_guidance
        np.testing.assert_allclose(ours.landmarks_KC, theirs.landmarks_KC, atol=1e-3)


def test_the_file_names_no_person_and_no_place_and_knows_nobody(pair):
    checkpoint, report = pair
    content, model = report.out.read_bytes(), read_exported(report.out)
    assert model.identities == [] and model.generator.metadata["num-identities"] == "2"
    assert not any(name.encode() in content for name in (*checkpoint.identities, str(report.out.parent), ".py"))
    assert all(len(rows) == 1 for name, rows in model.tensors.items() if name.endswith("_own")), "the stranger's"
    with pytest.raises(ConfigError, match="source identity the checkpoint knows"):
        Reenactor(model, CPU).choose(Guidance.LGAN, small_face(0, checkpoint.identities[0]), "")


def test_marks_of_both_say_one_model(pair):
    checkpoint, report = pair
    wanted = Reenactor(checkpoint, CPU).weights_sha256()
    assert Reenactor(read_exported(report.out), CPU).weights_sha256() == wanted
    assert read_exported(report.out).generator.metadata["weights-sha256"] == wanted


def test_reenact_takes_the_file_for_the_run(pair, tmp_path):
    checkpoint, report = pair
    write_random_shard(tmp_path / "data", "eva", num_frames=2)
    frames = tmp_path / "data" / "eva" / "frames"
    run = save_checkpoint(tmp_path / "run", checkpoint)
    asked = ReenactRequest(
        checkpoint=run,
        sources=(frames / "000000.jpg",),
        driving=frames / "000001.jpg",
        out=tmp_path / "run.png",
        without_consent=WithoutConsent.SYNTHETIC,
    )
    theirs = run_request(asked, device=CPU, progress=no_progress)
    ours = run_request(
        replace(asked, checkpoint=report.out, out=tmp_path / "file.png"), device=CPU, progress=no_progress
    )
    assert (ours.guidance, ours.num_sources) == (theirs.guidance, theirs.num_sources)
    assert ours.record == theirs.record, "which stands for model, inputs and choices"
    assert np.abs(read_image(ours.out).astype(int) - read_image(theirs.out)).max() <= 2


def test_any_number_of_people_is_stood_in_for():
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(8, 24, (3, 68, 2)).astype(np.float32)
    for num_people in (1, 2, 5):
        mean = rng.uniform(8, 24, (num_people, 68, 2)).astype(np.float32)
        std = rng.uniform(1, 3, (num_people, 68, 2)).astype(np.float32)
        ours_mean, ours_std = stand_ins(mean, std)
        ours, theirs = (
            estimated_statistics(replace(small_checkpoint(), landmark_mean_IKC=means, landmark_std_IKC=stds), landmarks)
            for means, stds in ((ours_mean, ours_std), (mean, std))
        )
        np.testing.assert_allclose(ours.mean_KC, theirs.mean_KC, atol=1e-4)
        np.testing.assert_allclose(ours.std_KC, theirs.std_KC, atol=1e-4)
        assert num_people < 3 or np.abs(ours_mean[:, None] - mean).max(axis=(2, 3)).min() > 0.1


def test_a_file_that_draws_otherwise_is_not_delivered(tmp_path, monkeypatch):
    run = save_checkpoint(tmp_path / "run", small_checkpoint()).parent
    monkeypatch.setattr(exporting, "_content", lambda *_: b"")
    monkeypatch.setattr(exporting, "load_exported", lambda _: type("File", (), {"generator": None})())
    for difference in (2e-4, float("nan")):
        monkeypatch.setattr(exporting, "largest_difference", lambda *_, found=difference: found)
        with pytest.raises(CheckpointError, match="not written"):
            export(run, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_who_withdrew_is_not_exported_or_drawn_with(pair, tmp_path):
    run = save_checkpoint(tmp_path / "run", small_checkpoint()).parent
    mark_withdrawn(run, "ana")
    with pytest.raises(CheckpointError, match="ana.*withdrew"):
        export(run, tmp_path / "model.onnx")
    (run / "model.onnx").write_bytes(pair[1].out.read_bytes())
    with pytest.raises(CheckpointError, match="ana.*withdrew"):
        Studio(run / "model.onnx", CPU, no_progress)


def test_other_networks_and_names_are_refused(tmp_path):
    config = replace(SMALL, network="x2face")
    run = save_checkpoint(tmp_path / "run", checkpoint_of(config)).parent
    with pytest.raises(ConfigError, match="x2face has no form in ONNX, wanted glr"):
        export(run, tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        export(run, tmp_path / "model.pt")


def test_foreign_files_are_refused(pair, tmp_path):
    onnx = package("onnx")
    (tmp_path / "noise.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"noise\.onnx: not a readable ONNX file"):
        read_exported(tmp_path / "noise.onnx")
    model = onnx.load(pair[1].out)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(CheckpointError, match=r"bare\.onnx: format None, this program reads '2'"):
        read_exported(tmp_path / "bare.onnx")


def test_a_package_that_lacks_is_named_with_what_installs_it():
    with pytest.raises(ConfigError, match=r"no_such_package.*pip install 'fedreenact\[onnx\]'"):
        package("no_such_package")
