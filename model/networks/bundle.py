"""The networks that travel between server and clients, as named float32 arrays."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from model.config import ModelConfig
from model.errors import TensorMismatchError, listed
from model.landmarks.geometry import PartSizes
from model.networks.landmark_gan import LandmarkDiscriminator, LandmarkGenerator

NamedArrays = Mapping[str, npt.NDArray[np.float32]]


class Networks(nn.Module):
    """What a design trains, each network a child; a design's own class makes them, in the order of the tensors."""

    generator: nn.Module
    """`GeneratorInputs` to a `GeneratorOutput`."""
    landmark_generator: LandmarkGenerator
    """Of designs that can be guided by lgan, as its discriminator."""
    landmark_discriminator: LandmarkDiscriminator

    def __init__(self, config: ModelConfig, part_sizes: PartSizes) -> None:
        super().__init__()
        part_sizes.check_within(config.image_size_px)
        self.config = config
        self.part_sizes = part_sizes

    def start_from(self, landmark_mean_IKC: npt.NDArray[np.float32], base: NamedArrays | None = None) -> None:
        """Take what was agreed where a network starts from it: here none does.

        Args:
            landmark_mean_IKC: [I, 68, 2] pixels.
            base: coefficients by `closed_form.fit`, in runs with lgan-base = closed.
        """

    def source_features(self, images_MCHW: torch.Tensor) -> torch.Tensor | None:
        """What the generator sees in sources, whatever drives them, and takes as `GeneratorInputs.source_features`.

        Args:
            images_MCHW: [M, 3, S, S] in [-1, 1].

        Returns:
            [M, ...], or None for a design that sees nothing of the kind.
        """
        return None

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    def weights_sha256(self) -> str:
        """SHA-256 of all weights that draw, hexadecimal: discriminators, which a release has none of, do not count."""
        digest = hashlib.sha256()
        for name, tensor in self.state_dict().items():
            if not is_of_discriminator(name):
                digest.update(name.encode())
                digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def travelling_tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """Name to a float32 copy on the CPU, in a fixed order; all that leaves a site besides scalars."""
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self._tensors()}

    def load_tensors(self, tensors: NamedArrays) -> None:
        """Take over all weights.

        Raises:
            TensorMismatchError: if a name, shape or dtype differs or a value is not finite; nothing is changed then.
        """
        own = dict(self._tensors())
        validate_tensors(tensors, {name: t.detach().cpu().numpy() for name, t in own.items()}, where="weights to load")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(tensors[name])))

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        return iter(self.state_dict(keep_vars=True).items())


def is_of_discriminator(tensor: str) -> bool:
    """Whether a tensor of `Networks` judges pictures or landmarks, by its name, and is not drawn with."""
    return tensor.split(".", 1)[0].endswith("discriminator")


def validate_tensors(tensors: NamedArrays, expected: NamedArrays, *, where: str) -> None:
    """Check that `tensors` could replace `expected`.

    Args:
        tensors: what arrived.
        expected: arrays of the right names, shapes and dtypes; their values are not looked at.
        where: who sent it, the beginning of the message, for example "client 3, round 7".

    Raises:
        TensorMismatchError: naming the first missing or unknown name, wrong shape, wrong dtype, or value that is not
            finite.
    """
    missing = [name for name in expected if name not in tensors]
    unknown = [name for name in tensors if name not in expected]
    if missing or unknown:
        differences = "; ".join(
            f"{what} {listed(names, 1)}"
            for what, names in (("missing tensor", missing), ("unknown tensor", unknown))
            if names
        )
        raise TensorMismatchError(f"{where}: {differences}; was it made with another preset or version?")
    for name, wanted in expected.items():
        got = tensors[name]
        if got.shape != wanted.shape:
            raise TensorMismatchError(
                f"{where}: {name} has shape {got.shape}, expected {wanted.shape}; was it made with another preset?"
            )
        if got.dtype != wanted.dtype:
            raise TensorMismatchError(f"{where}: {name} has dtype {got.dtype}, expected {wanted.dtype}")
        if not np.isfinite(got).all():
            num_bad = int(np.size(got) - np.isfinite(got).sum())
            raise TensorMismatchError(f"{where}: {name} has {num_bad} of {got.size} values that are not finite")
