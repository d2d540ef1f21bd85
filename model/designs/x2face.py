"""X2Face (Wiles, Koepke and Zisserman, ECCV 2018), the baseline that the thesis trains from scratch (Table 4.4).

An embedding network turns the source into an embedded face, a driving network turns the driving frame into a flow, and
the result samples the embedded face along it. Trained on the photometric L1 alone, the paper's first stage; its second
stage needs a pretrained face network (docs/decisions/007).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.batch import GeneratorInputs, ReenactmentBatch
from model.config import LossConfig, ModelConfig
from model.designs.design import Design, Term, Terms
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.networks.unet import UNet, block
from model.networks.warping import resized, warp
from model.training import losses
from model.training.perceptual import PerceptualLoss

_LATENT_DIM = 128  # of the driving vector, as in the paper
_MAX_GROWTH = 8
_SMALLEST_PX = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class X2FaceOutput:
    """What one forward pass gives; N pairs, image side S."""

    image_NCHW: Tensor
    """[N, 3, S, S] in [-1, 1]: the source person in the driving pose."""
    embedded_face_NCHW: Tensor
    """[N, 3, S, S] in [-1, 1]: what the driving flow samples."""
    flow_NCHW: None = None
    """There is one flow from the source to the embedded face, and one from there."""

    def stages(self) -> dict[str, Tensor]:
        """Pictures on the way to the image, [N, 3, S, S] in [-1, 1]."""
        return {"Embedded face": self.embedded_face_NCHW}


class X2Face(nn.Module):
    """The baseline's generator. Both flows start at zero, so training starts from copying the source."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        num_halvings = _num_halvings(config.image_size_px)
        self.embedding = UNet(3, 2, width=config.generator_channels, num_halvings=num_halvings, max_growth=_MAX_GROWTH)
        self.driving = DrivingNetwork(config, num_halvings)

    def forward(self, inputs: GeneratorInputs) -> X2FaceOutput:
        """Reenact N sources; landmarks and heatmap are for other designs."""
        embedded_NCHW = warp(inputs.source_NCHW, self.embedding(inputs.source_NCHW))
        image_NCHW = warp(embedded_NCHW, self.driving(inputs.driving_NCHW))
        return X2FaceOutput(image_NCHW=image_NCHW, embedded_face_NCHW=embedded_NCHW)


class DrivingNetwork(nn.Module):
    """Driving frame to a vector and on to a flow; the vector keeps the driver's appearance out of the result."""

    def __init__(self, config: ModelConfig, num_halvings: int) -> None:
        super().__init__()
        width = config.generator_channels
        widths = [width * min(2**level, _MAX_GROWTH) for level in range(num_halvings + 1)]
        self.side_px = config.image_size_px >> num_halvings
        self.size_px = config.image_size_px
        seed_dim = widths[-1] * self.side_px**2
        self.encode = nn.Sequential(
            block(3, width), *(block(widths[level], widths[level + 1], stride=2) for level in range(num_halvings))
        )
        self.to_vector = nn.Linear(seed_dim, _LATENT_DIM)
        self.from_vector = nn.Linear(_LATENT_DIM, seed_dim)
        self.decode = nn.ModuleList(block(widths[level + 1], widths[level]) for level in reversed(range(num_halvings)))
        self.to_flow = nn.Conv2d(width, 2, 3, padding=1)
        nn.init.zeros_(self.to_flow.weight)
        nn.init.zeros_(self.to_flow.bias)  # type: ignore[arg-type]

    def forward(self, driving_NCHW: Tensor) -> Tensor:
        """[N, 3, S, S] in [-1, 1] to a flow [N, 2, S, S]."""
        vector_NL = self.to_vector(self.encode(driving_NCHW).flatten(1))
        x_NCHW = torch.relu(self.from_vector(vector_NL)).view(len(driving_NCHW), -1, self.side_px, self.side_px)
        for level, decode in enumerate(self.decode, start=1):
            side = self.size_px >> (len(self.decode) - level)
            x_NCHW = decode(resized(x_NCHW, side, side))
        return self.to_flow(x_NCHW)  # type: ignore[no-any-return]


def _num_halvings(size_px: int) -> int:
    """Halvings without remainder that leave at least `_SMALLEST_PX`."""
    num_halvings = 0
    while size_px % 2 == 0 and size_px // 2 >= _SMALLEST_PX:
        size_px, num_halvings = size_px // 2, num_halvings + 1
    return num_halvings


class X2FaceNetworks(Networks):
    """The generator alone."""

    generator: X2Face

    def __init__(self, config: ModelConfig, part_sizes: PartSizes) -> None:
        super().__init__(config, part_sizes)
        self.generator = X2Face(config)


class X2FaceObjective:
    """The photometric L1 alone (X2Face, first stage)."""

    def __init__(
        self, networks: X2FaceNetworks, loss: LossConfig, perceptual: PerceptualLoss | None, seed: int
    ) -> None:
        self._networks = networks

    def draw(self, batch: ReenactmentBatch) -> Tensor:
        """The images, [N, 3, S, S]."""
        image_NCHW: Tensor = self._networks.generator(batch.generator_inputs()).image_NCHW
        return image_NCHW

    def discriminator_terms(self, batch: ReenactmentBatch, drawn: Tensor, step: int) -> Terms:
        """None: there is no discriminator."""
        return {}

    def generator_terms(self, batch: ReenactmentBatch, drawn: Tensor, step: int) -> Terms:
        """L1 on the whole image."""
        return {"l1_image": losses.l1_loss(drawn, batch.driving_NCHW)}


DESIGN = Design(
    name="x2face",
    networks=X2FaceNetworks,
    objective=X2FaceObjective,
    phases={"discriminator": (), "generator": ("generator",)},
    terms=(Term(name="l1_image", weight=lambda loss: loss.weight_l1_image),),
    settings=frozenset({"network", "image-size-px", "generator-channels", "weight-l1-image"}),
)
