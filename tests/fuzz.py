"""Damaged files for every reader: a seeded mutator, what each reader reads, and what it may do with damage.

    python -m tests.fuzz --mutations 10000 [READER...]

A reader gives a value that holds, or raises an error of the program's own, of one line. The gate
(`tests/cases/test_fuzz.py`) runs a few mutations of each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageCms

from client.consent.approval import Approval
from data_partition.shards.content import contents
from data_partition.shards.images import read_image
from data_partition.shards.shard import Shard, open_shard
from data_partition.sources.celebv import read_points
from data_partition.sources.openface import read_openface
from data_partition.sources.pictures import read_picture
from data_partition.sources.video import count_frames, read_frames
from data_partition.sources.voxceleb import read_clip_table
from evaluation.figures.gap import read_pair_values
from evaluation.pairs import read_pairs
from experiments.audit.files import read_audit
from federation.settings import Settings, read_preset, to_toml
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.errors import FedreenactError
from model.version import own_version
from reenact.batch import BatchRow, read_table, write_table
from server.monitoring.run_view import RunView
from server.run_folder.record import RunRecord
from server.sites.sites_file import read_sites
from tests.support.rows import round_row
from tests.support.shards import write_random_shard
from tests.support.small_face import small_checkpoint

NUM_EDITS = (1, 1, 1, 2, 4, 12)
"""Of a mutation, one of these."""
_WORDS = (
    b"nan",
    b"1e999",
    b"-1",
    b"",
    b"9" * 5_000,
    b'"',
    b"null",
    b"[" * 20_000,
    b"\xff\xfe",
    b"\x00",
    b"\r\n",
    b"1_0",
)
_NUMBERS = (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00")


def mutations(good: bytes, seed: str) -> Iterator[bytes]:
    """Damaged forms of a file, without end; equal seeds give equal ones."""
    rng = random.Random(seed)
    while True:
        data = bytearray(good)
        for _ in range(rng.choice(NUM_EDITS)):
            rng.choice(_EDITS)(rng, data)
        yield bytes(data)


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def _cut(rng: random.Random, data: bytearray) -> None:
    if rng.random() < 0.1:
        del data[rng.randint(0, len(data)) :]


def _remove(rng: random.Random, data: bytearray) -> None:
    start = rng.randint(0, len(data))
    del data[start : start + rng.randint(1, 16)]


def _repeat(rng: random.Random, data: bytearray) -> None:
    start, place = rng.randint(0, len(data)), rng.randint(0, len(data))
    data[place:place] = data[start : start + rng.randint(1, 64)]


def _write(rng: random.Random, data: bytearray) -> None:
    """An extreme number in place of four bytes."""
    place = rng.randint(0, max(len(data) - 4, 0))
    data[place : place + 4] = rng.choice(_NUMBERS)


def _say(rng: random.Random, data: bytearray) -> None:
    """A word that text files should not have."""
    place = rng.randint(0, len(data))
    data[place : place + rng.choice((0, 1, 4))] = rng.choice(_WORDS)


_EDITS: tuple[Callable[[random.Random, bytearray], None], ...] = (_flip, _byte, _cut, _remove, _repeat, _write, _say)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One kind of file and who reads it."""

    name: str
    path: Path
    """The file; whole at first."""
    read: Callable[[], None]
    """Reads it and asserts that what was read can be."""
    seal: Callable[[], None] = lambda: None
    """Called after each mutation: makes the sums of bytes right that would hide the damage."""


@dataclass
class Outcome:
    """What mutations of one file did."""

    num_read: int = 0
    num_refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """What went wrong, in a line each."""


def run(reader: Reader, num_mutations: int, seed: int = 0) -> Outcome:
    """Read damaged forms of a file; the last one that went wrong stays beside it, with `.bad` at its end."""
    good, outcome = reader.path.read_bytes(), Outcome()
    damaged = mutations(good, f"{reader.name} {seed}")
    for _ in range(num_mutations):
        data = next(damaged)
        reader.path.write_bytes(data)
        reader.seal()
        try:
            reader.read()
            outcome.num_read += 1
        except FedreenactError as error:
            outcome.num_refused += 1
            _note_message(str(error), outcome)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            outcome.failures[f"{type(error).__name__} in {place.name}: {str(error)[:80]}"] += 1
            reader.path.with_name(reader.path.name + ".bad").write_bytes(data)
    reader.path.write_bytes(good)
    reader.seal()
    return outcome


def _note_message(text: str, outcome: Outcome) -> None:
    if "\n" in text:
        outcome.failures[f"message of several lines: {text[:80]!r}"] += 1


def readers(folder: Path) -> dict[str, Reader]:
    """Every reader by name, with whole files in a folder."""
    found = [
        *_pictures(folder),
        *_videos(folder),
        *_tables(folder),
        *_shards(folder),
        *_checkpoints(folder),
        *_settings(folder),
        *_runs(folder),
    ]
    return {one.name: one for one in found}


def _face() -> np.ndarray:
    """Something smooth with something sharp on it."""
    ramp = np.linspace(0, 255, 48)
    image = np.stack([np.add.outer(ramp, ramp) / 2, np.tile(ramp, (48, 1)), np.full((48, 48), 90.0)], axis=-1)
    image[16:24, 16:24] = 255
    return image.astype(np.uint8)


def _pictures(folder: Path) -> Iterator[Reader]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.full((24, 24), 40_000, np.uint16))
    colour = Image.fromarray(_face())
    for name, image, options in (
        ("a.jpg", colour, {"exif": exif, "icc_profile": profile}),
        ("progressive.jpg", colour, {"progressive": True, "restart_marker_rows": 1}),
        ("ink.jpg", colour.convert("CMYK"), {}),
        ("a.png", colour.convert("RGBA"), {"exif": exif}),
        ("deep.png", deep, {}),
        ("a.webp", colour, {"exif": exif, "icc_profile": profile}),
        ("a.tiff", colour, {"compression": "tiff_lzw"}),
        ("a.bmp", colour, {}),
        ("a.avif", colour, {}),
    ):
        path = folder / name
        image.save(path, **options)
        yield Reader(name=name, path=path, read=lambda path=path: _check_picture(read_picture(path)))  # type: ignore[misc]
    for suffix in (".jpg", ".png"):
        path = folder / f"frame{suffix}"
        colour.save(path)
        yield Reader(name=path.name, path=path, read=lambda path=path: _check_picture(read_image(path)))  # type: ignore[misc]


def _check_picture(image: np.ndarray) -> None:
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size, image.shape


def _videos(folder: Path) -> Iterator[Reader]:
    for name, codec, pix_fmt in (
        ("a.mp4", "libx264", "yuv420p"),
        ("b.mp4", "mpeg4", "yuv420p"),
        ("a.mov", "png", "rgba"),
        ("a.mkv", "libx265", "yuv420p10le"),
        ("a.webm", "libvpx", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.ts", "mpeg2video", "yuv420p"),
        ("a.wmv", "wmv2", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
    ):
        path = folder / name
        _write_video(path, codec, pix_fmt)
        yield Reader(name=name, path=path, read=lambda path=path: _check_video(path))  # type: ignore[misc]


def _write_video(path: Path, codec: str, pix_fmt: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pix_fmt
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none"}
        for shift in range(12):
            image = np.roll(np.pad(_face(), ((8, 8), (8, 8), (0, 0)), mode="edge"), shift, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def _check_video(path: Path) -> None:
    assert count_frames(path) >= 0
    index, time_s = -1, -1.0
    for frame in read_frames(path, lambda _: None):
        _check_picture(frame.image_HWC)
        assert frame.index > index and frame.timestamp_s > time_s, (frame.index, frame.timestamp_s)
        index, time_s = frame.index, frame.timestamp_s


def _tables(folder: Path) -> Iterator[Reader]:
    numbers = ",".join(["frame", "timestamp", "confidence", "success", *(f"x_{i}" for i in range(68))])
    numbers += "," + ",".join([*(f"y_{i}" for i in range(68)), "AU01_c", "AU01_r"])
    rows = "".join(f"{frame},{frame / 25},0.9,1,{','.join(['20.5'] * 136)},1,2.5\n" for frame in range(1, 5))
    yield _text(folder / "openface.csv", f"{numbers}\n{rows}", lambda path: _check_openface(path))
    points = "".join(" ".join(f"{i + n}.5" for i in range(196)) + f" {n}.jpg\n" for n in range(4))
    yield _text(folder / "all_98pt.txt", points, _check_points)
    clips = "person_id,video_id,start,end,partition\n" + "".join(f"id1,vid{n},{n},{n + 9},train\n" for n in range(4))
    yield _text(folder / "vox-metadata.csv", clips, lambda path: _require(read_clip_table(path)))


def _text(path: Path, text: str, read: Callable[[Path], None]) -> Reader:
    path.write_text(text, encoding="utf-8")
    return Reader(name=path.name, path=path, read=lambda: read(path))


def _check_openface(path: Path) -> None:
    table = read_openface(path)
    assert ((table.confidence_N >= 0) & (table.confidence_N <= 1)).all() and (table.frame_index_N >= 0).all()
    assert not np.isinf(table.landmarks_NKC).any()


def _check_points(path: Path) -> None:
    assert np.isfinite(read_points(path).landmarks_NKC).all()


def _shards(folder: Path) -> Iterator[Reader]:
    shard = write_random_shard(folder / "data", "anna", num_frames=20)
    for name in ("metadata.parquet", "shard.json"):
        yield Reader(name=name, path=shard.path / name, read=lambda: _check_shard(open_shard(shard.path)))
    pairs = "protocol,source_identity,source_file,driving_identity,driving_file\n"
    pairs += f"self,anna,{shard.file_name[18]},anna,{shard.file_name[19]}\n"
    yield _text(folder / "pairs.csv", pairs, lambda path: _require(read_pairs(path, [shard])))


def _check_shard(shard: Shard) -> None:
    for values in (shard.landmarks_FKC, shard.pose_FC, shard.timestamp_s, shard.au_presence_FA):
        assert np.isfinite(values).all()
    assert shard.num_frames == len(shard.file_name) == len(shard.clip) and json.dumps(shard.info)


def _checkpoints(folder: Path) -> Iterator[Reader]:
    round_folder = save_checkpoint(folder / "run", small_checkpoint())
    index, weights = round_folder / "checkpoint.json", round_folder / "weights.safetensors"
    whole = json.loads(index.read_text())

    def seal() -> None:
        content = whole | {"weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
        content.pop("index_sha256", None)
        index.write_text(json.dumps(content))

    def read() -> None:
        _check_checkpoint(load_checkpoint(round_folder))

    yield Reader(name="weights.safetensors", path=weights, read=read, seal=seal)
    yield Reader(name="checkpoint.json", path=index, read=read)


def _check_checkpoint(checkpoint: Checkpoint) -> None:
    assert not checkpoint.networks().training


def _settings(folder: Path) -> Iterator[Reader]:
    text = to_toml(Settings().to_flat())
    yield _text(folder / "preset.toml", text, lambda path: _check_settings(Settings.from_flat(read_preset(path))))
    yield _text(folder / "approved.toml", text, lambda path: _check_settings(Approval.read(path).settings))
    rows = [{"partition-id": n, "node-id": 100 + n, "key-sha256": f"{n:064x}"} for n in range(3)]
    yield _text(folder / "sites.json", json.dumps({"sites": rows}), lambda path: _require(read_sites(path)))


def _check_settings(settings: Settings) -> None:
    assert Settings.from_flat(settings.to_flat()) == settings


def _runs(folder: Path) -> Iterator[Reader]:
    run_folder = folder / "run"
    rows = [round_row(n, loss_generator=1.5, clients={0: {"num_examples": 10}}).to_json() for n in (1, 2)]
    live = {
        "phase": "waiting",
        "round": 1,
        "time": 1.0,
        "phase_since": 1.0,
        "last_contact": {"0": 1.0},
        "connected": [0],
    }
    audit = {"name": "a", "head": ["x"], "sections": [], "charts": {}}
    for name, text in (
        ("history.jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
        ("live.json", json.dumps(live)),
        ("result.json", json.dumps({"status": "completed", "reason": "max-rounds"})),
    ):
        yield _text(run_folder / name, text, lambda path: _check_view(path.parent))
    people = contents([write_random_shard(folder / "people", "anna", num_frames=20)])
    RunRecord(run_id="ab", version=own_version(), people=people, site_frames={0: 9}).write(run_folder)
    text = (run_folder / "run.json").read_text()
    yield _text(run_folder / "run.json", text, lambda path: RunRecord.read(path.parent).require_same(path, people))
    yield _text(run_folder / "audit.json", json.dumps(audit), lambda path: _require(read_audit(path.parent)))
    values = "protocol,source_identity,source_file,driving_identity,driving_file,method,psnr\n"
    values += "self,anna,a.jpg,anna,b.jpg,model,20.5\n"
    yield _text(run_folder / "per-pair.csv", values, lambda path: _require(read_pair_values(path.parent)))
    write_table(folder / "results.csv", [BatchRow(source="anna.jpg", driving="a.mp4", result="b.mp4", frames="10")])
    yield _text(folder / "results.csv", (folder / "results.csv").read_text(), lambda path: _require(read_table(path)))


def _check_view(run_folder: Path) -> None:
    view = RunView.read(run_folder)
    assert view.state(10.0)


def _require(value: object) -> None:
    """Something was read; a file that holds nothing is refused or gives something empty."""
    assert value is not None


def main(arguments: list[str]) -> int:
    """Run the readers of these names, or all; 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="tests.fuzz")
    parser.add_argument("readers", nargs="*")
    parser.add_argument("--mutations", type=int, default=10_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for files that went wrong; a temporary one if not given")
    chosen = parser.parse_args(arguments)
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    all_readers = readers(folder)
    names = chosen.readers or list(all_readers)
    has_failed = False
    for name in names:
        outcome = run(all_readers[name], max(1, chosen.mutations // len(names)), chosen.seed)
        print(
            f"{name}: {outcome.num_read} read, {outcome.num_refused} refused",
            *_lines(outcome),
            sep="\n    ",
            flush=True,
        )
        has_failed |= bool(outcome.failures)
    print(f"files: {folder}")
    return int(has_failed)


def _lines(outcome: Outcome) -> list[str]:
    return [f"{count} x {text}" for text, count in outcome.failures.most_common()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
