"""A folder of situations, each with its inputs, run by the commands themselves: a table of verdicts.

    python -m tests.cases.shared CASES [NAME...]

CASES holds a folder a situation, as the functions below name them. Nothing of the program needs it; the tests beside
this file make inputs of the same kinds themselves. Exit code 1 if a situation went otherwise than it should.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from cli import entry as cli
from cli.terminal import console, error_console
from data_partition.shards.shard import open_dataset
from data_partition.synth.dataset import synthesize


class Wrong(AssertionError):
    """What happened, where something else was wanted."""


class Case:
    """The inputs of one situation, copied, and commands that run on them."""

    def __init__(self, folder: Path, run: Path, face: Path) -> None:
        self.folder = folder
        self.run_folder = run
        """Two rounds of people with odd names."""
        self.face = face
        """A picture of a drawn person."""

    def path(self, name: str) -> Path:
        """In the copied folder."""
        return self.folder / name

    def command(self, *arguments: object, code: int = 0, says: str = "", never: str = "Traceback") -> str:
        """What a command prints; Wrong if it ends with another code, lacks `says` or has `never`."""
        with _captured() as text:
            ended = _exit_code([str(argument) for argument in arguments])
        said = " ".join(text.getvalue().split())
        if ended != code:
            raise Wrong(f"exit code {ended}: {said[-300:]}")
        if says not in said or never in said:
            raise Wrong(f"said {said[-300:]!r}, wanted {says!r}")
        return said

    def prepare(self, src: str = "videos", *, size: int = 64, code: int = 0, says: str = "", out: str = "out") -> str:
        """`prepare` into a folder of the case."""
        return self.command("prepare", self.path(src), self.path(out), "--size", size, code=code, says=says)

    def reenact(self, source: Path, driving: Path, suffix: str, *options: str, code: int = 0, says: str = "") -> Path:
        """`reenact` with the run."""
        out = self.path(f"result{suffix}")
        places = ("--source", source, "--driving", driving, "--out", out)
        common = (*places, "--device", "cpu", "--without-consent", "synthetic")
        self.command("reenact", self.run_folder, *common, *options, code=code, says=says)
        return out

    def kept(self, out: str = "out") -> dict[str, int]:
        """Person to frames in a dataset."""
        return {shard.identity: shard.num_frames for shard in open_dataset(self.path(out))}

    def require_kept(self, wanted: dict[str, int], out: str = "out") -> None:
        """So many frames of each person at least, and nobody else."""
        kept = self.kept(out)
        if kept.keys() != wanted.keys() or any(kept[name] < wanted[name] for name in wanted):
            raise Wrong(f"kept {kept}, wanted at least {wanted}")


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    text = io.StringIO()
    log = logging.StreamHandler(text)
    logging.getLogger().addHandler(log)
    before = console.file, error_console.file
    console.file = error_console.file = text
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            yield text
    finally:
        console.file, error_console.file = before
        logging.getLogger().removeHandler(log)


def _exit_code(arguments: list[str]) -> int:
    try:
        cli.main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def camera_suffixes(case: Case) -> None:
    case.prepare()
    case.require_kept(dict.fromkeys("abc", 10))
    case.reenact(case.face, case.path("videos/b.MTS"), ".mp4")


def csv_beside_video(case: Case) -> None:
    case.prepare(says="layout: videos")
    case.require_kept({"anna": 10, "ben": 10})
    case.prepare("frames", says="layout: frames", out="frames-out")
    case.require_kept({"anna": 5}, "frames-out")


def cut_jpeg(case: Case) -> None:
    case.reenact(case.path("cut.jpg"), case.face, ".png", code=2, says="truncated picture")


def dangling_link(case: Case) -> None:
    case.path("videos/ben.mp4").symlink_to("nowhere.mp4")
    case.prepare(says="a link without a target")
    case.require_kept({"anna": 10})


def dark_video(case: Case) -> None:
    case.prepare(size=128)
    case.command("doctor", case.path("out"), says="very dark", never="a still picture?")


def hdr_video(case: Case) -> None:
    case.prepare(size=128)
    colours = {shard.identity: _mean_colour(shard.read_frame(0)) for shard in open_dataset(case.path("out"))}
    far = {name: colour for name, colour in colours.items() if np.abs(colour - colours["sdr"]).max() > 20}
    if far or len(colours) < 3:
        raise Wrong(f"mean colours {colours}")


def _mean_colour(image_HWC: np.ndarray) -> np.ndarray:
    return image_HWC.reshape(-1, 3).mean(axis=0).round()


def in_place_add(case: Case) -> None:
    case.prepare(out="videos", code=2, says="write the dataset to a folder beside it")
    case.prepare()
    shutil.copy(case.path("later/ben.mp4"), case.path("videos"))
    case.prepare()
    case.require_kept({"anna": 10, "ben": 10})


def metadata_not_utf8(case: Case) -> None:
    case.prepare(size=128)
    case.require_kept({"anna": 10, "ben": 10})
    case.reenact(case.face, case.path("videos/anna.mp4"), ".mp4")


def motion_photo(case: Case) -> None:
    case.prepare()
    case.require_kept({"anna": 5})
    case.reenact(case.path("videos/anna/01.jpg"), case.face, ".png")
    case.reenact(case.path("trailing.png"), case.face, ".png")


def name_ends_in_parts(case: Case) -> None:
    case.prepare(says="rename it")
    case.require_kept({"anna": 10})
    case.command("doctor", case.path("out"), never="unfinished")


def names_lost_in_federation(case: Case) -> None:
    case.prepare()
    places = ("--out", case.path("results"), "--num-pairs", 1, "--protocol", "cross", "--device", "cpu")
    case.command("evaluate", case.run_folder, case.path("out"), *places)
    case.reenact(case.face, case.face, ".png", "--identity", "O'Brien")


def newest_checkpoint_damaged(case: Case) -> None:
    half = case.path("half")
    shutil.copytree(case.run_folder, half)
    weights = half / "round-000002" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:9000])
    case.run_folder = half
    case.reenact(case.face, case.face, ".png", says="round 1 is used in its place")


def openface_other_rate(case: Case) -> None:
    case.prepare(code=2, says="a copy with another frame rate")


def option_values(case: Case) -> None:
    case.prepare(size=0, code=2, says="--size")
    case.command("exporter", case.run_folder, "--port", 99999, code=2, says="--port")


def pictures_beside_videos(case: Case) -> None:
    case.prepare(says="8 clip(s)")
    case.prepare("videos2", out="out2")
    if case.kept("out2").keys() != {"anna", "ben"}:
        raise Wrong(f"kept {case.kept('out2')}")


def removed_person_stays(case: Case) -> None:
    case.prepare()
    case.path("videos/ben.mp4").unlink()
    case.prepare(says="ben: not in the source folder any more, removed from the dataset")
    case.require_kept({"anna": 10})


def several_faces(case: Case) -> None:
    case.reenact(case.path("two.png"), case.face, ".png", says="2 faces")
    case.prepare(size=128, says="2 faces")


def small_face(case: Case) -> None:
    case.prepare(size=128)
    if not case.kept().get("face119px"):
        raise Wrong(f"kept {case.kept()}")


def turned_without_metadata(case: Case) -> None:
    case.prepare(size=128, says="not upright")
    case.require_kept({"sideways": 45, "upside": 45})
    case.reenact(case.path("upside.png"), case.face, ".png", says="not upright")


def vfr_driving(case: Case) -> None:
    for name in ("web.webm", "vfr.mp4", "gap.mp4"):
        result = case.reenact(case.face, case.path(name), ".mp4")
        times, wanted = _times(result), _times(case.path(name))
        if len(times) != len(wanted) or np.abs(times - wanted).max() > 0.02:
            raise Wrong(f"{name}: {len(wanted)} frames in {wanted[-1]:.2f} s became {len(times)} in {times[-1]:.2f} s")


def _times(path: Path) -> np.ndarray:
    """Of a video's frames, seconds from the first."""
    with av.open(str(path)) as container:
        times = [frame.time or 0.0 for frame in container.decode(video=0)]
    return np.array(times) - times[0]


CASES: dict[str, Callable[[Case], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        camera_suffixes,
        csv_beside_video,
        cut_jpeg,
        dangling_link,
        dark_video,
        hdr_video,
        in_place_add,
        metadata_not_utf8,
        motion_photo,
        name_ends_in_parts,
        names_lost_in_federation,
        newest_checkpoint_damaged,
        openface_other_rate,
        option_values,
        pictures_beside_videos,
        removed_person_stays,
        several_faces,
        small_face,
        turned_without_metadata,
        vfr_driving,
    )
}


def _trained(cases: Path, root: Path) -> Path:
    """Two short rounds on the people with odd names."""
    src = cases / "names-lost-in-federation" / "videos"
    short = ("--set", "max-rounds=2", "--set", "local-steps=2", "--without-consent", "synthetic")
    Case(root, root, root).command("prepare", src, root / "people", "--size", 64)
    Case(root, root, root).command("train", root / "people", "--out", root / "run", *short)
    return root / "run"


def _verdict(name: str, case: Case) -> str:
    try:
        CASES[name](case)
    except Wrong as error:
        return f"wrong: {error}"
    except Exception as error:  # a crash of the program is a verdict too
        return f"traceback: {type(error).__name__}: {error}"
    return "right"


def main(cases: Path, names: list[str]) -> int:
    """Run the cases of these names, or all; 1 if one went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        face = synthesize(root / "drawn", num_identities=1, num_frames=20, size_px=160, num_workers=1)[0]
        run = _trained(cases, root)
        verdicts = {}
        for name in names or CASES:
            shutil.copytree(cases / name, root / name, symlinks=True)
            verdicts[name] = _verdict(name, Case(root / name, run, face / "frames" / "000000.jpg"))
            print(f"| {name} | {verdicts[name]} |", flush=True)
    missing = sorted({path.name for path in cases.iterdir() if path.is_dir()} - CASES.keys())
    print(f"{sum(one == 'right' for one in verdicts.values())} of {len(verdicts)} right; without a check: {missing}")
    return int(any(one != "right" for one in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
