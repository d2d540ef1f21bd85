"""Write the lock files in deploy/locks anew: `make lock`.

python.txt     what the program needs at run time, without PyTorch
torch-pypi.txt PyTorch as PyPI has it (with CUDA on Linux) and what that build needs besides
torch-cpu.txt  PyTorch without CUDA, of PyTorch's own index; for Linux
dev.txt        what tests, type checks and audits need besides, and the extra `onnx`
weights.txt    packages out of which model files are taken; they are not installed
tools.txt      what writes the bill of materials and asks for known holes; for an environment of its own

Every line names one version and the SHA-256 of its files; no line names an index. Every file is complete together
with those above it, so pip installs them with --no-deps --require-hashes.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from model.files import write_text
from model.weights import SOURCES

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "deploy" / "locks"
TORCH = ("torch==2.13.0", "torchvision==0.28.0")
"""One version for both builds: sites with and without a GPU take part in one federation."""
TOOLS = ("cyclonedx-bom>=7,<8", "pip-audit>=2.10,<3")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH_FAMILY = re.compile(r"torch|torchvision|triton|nvidia-.*|cuda-.*")
WEIGHT_CARRIERS = sorted({SOURCES[name].package for name in ("face-landmarker", "sface", "yunet", "hed-vgg16")})


def compile_lock(*options: str, requirements: Iterable[str] = ()) -> dict[str, str]:
    """Resolve with uv.

    Args:
        options: further arguments of `uv pip compile`; "-" reads `requirements`.
        requirements: lines for standard input.

    Returns:
        Package name to its lines, hashes included.

    Raises:
        subprocess.CalledProcessError: if there is no solution or no index answers; uv has said why.
    """
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    fixed = ["--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate", "--no-config", "--quiet"]
    done = subprocess.run(
        [uv, "pip", "compile", *fixed, *options],
        input="\n".join(requirements),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    blocks: dict[str, str] = {}
    for block in re.findall(r"^[a-z0-9].*\n(?: .*\n)*", done.stdout, flags=re.MULTILINE):
        name = re.split(r"[=\[ ]", block, maxsplit=1)[0]
        blocks[name] = blocks.get(name, "") + block
    return blocks


def write(name: str, blocks: Iterable[str]) -> None:
    """Write one lock file."""
    write_text(LOCKS / name, "# Written by `make lock`; see docs/supply-chain.md.\n" + "".join(blocks))


def main() -> None:
    """Write all lock files; without PyTorch's index, torch-cpu.txt stays as it is and the exit code is 1."""
    project = ["pyproject.toml", "--universal", "--constraints", "-"]
    everything = compile_lock(*project, "--all-extras", requirements=TORCH)
    needed = compile_lock(*project, requirements=TORCH)
    torch = {name for name in needed if TORCH_FAMILY.fullmatch(name)}
    write("python.txt", (everything[name] for name in needed if name not in torch))
    write("torch-pypi.txt", (everything[name] for name in needed if name in torch))
    write("dev.txt", (block for name, block in everything.items() if name not in needed))
    write("weights.txt", compile_lock("-", "--no-deps", "--universal", requirements=WEIGHT_CARRIERS).values())
    write("tools.txt", compile_lock("-", "--universal", requirements=TOOLS).values())
    try:
        of_linux = ("--python-platform", "x86_64-unknown-linux-gnu", "--default-index", TORCH_CPU_INDEX)
        write("torch-cpu.txt", compile_lock("-", "--no-deps", *of_linux, requirements=TORCH).values())
    except subprocess.CalledProcessError:
        sys.exit(f"torch-cpu.txt is as it was: {TORCH_CPU_INDEX} has not answered")


if __name__ == "__main__":
    main()
