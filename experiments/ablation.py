"""What each addition to the thesis' network is worth: the preset with all of its additions, and without one of them."""

from __future__ import annotations

from evaluation.metrics.catalogue import (
    AUCON,
    CSIM,
    GAZE_ERROR,
    KID,
    LIP_GAP_SLOPE,
    PERCEPTUAL,
    PRMSE,
    PSNR,
    SHARPNESS,
    SSIM,
)
from evaluation.pairs import Protocol
from experiments.table import FOLLOWING_USE_FLOW, ExperimentTable, ModelRow
from model.setting import Scalar
from reenact.guidance_choice import Guidance

_WITHOUT: dict[str, dict[str, Scalar]] = {
    "all": {},
    "without landmark motions": FOLLOWING_USE_FLOW,
    "trained on one source": {"num-sources": 1},
    "without appearance skip": {"use-appearance-skip": False},
    "sampled bilinearly": {"source-sampling": "bilinear"},
    "without irises": {"use-irises": False},
    "without closed base": {"lgan-base": "none"},
    "without style": {"use-style": False},
    "without perceptual term": {"weight-perceptual": 0.0},
    "without discriminator": {"weight-adversarial": 0.0, "weight-feature-matching": 0.0},
    "with the thesis' discriminator loss": {"adversarial-loss": "gan"},
    "discriminator from the start": {
        "adversarial-from-step": 0,
        "adversarial-lead-steps": 0,
        "adversarial-ramp-steps": 0,
    },
    "without limit of the discriminator's pull": {"adversarial-limit": 0.0},
    "without losses on the flow": {"weight-flow-landmarks": 0.0, "weight-flow-smoothness": 0.0},
    "without small last steps": {"decay-from-step": 0, "decay-halving-steps": 0},
    "without limit of the gradient": {"max-gradient-norm": 0.0},
    "with the thesis' second moment": {"adam-beta2": 0.999},
    "without average over rounds": {"server-ema-decay": 0.0},
    "without random colours": {"colour-jitter": 0.0},
}
"""Label to what differs from the preset. A preset that lacks an addition has two equal rows, of one training."""
_ROWS = tuple(ModelRow(label=label, changes=changes, guidance=Guidance.AUTO) for label, changes in _WITHOUT.items())
_SHARP = SHARPNESS["whole"]

ABLATIONS: dict[str, ExperimentTable] = {
    "ablation": ExperimentTable(
        title="Additions, each left out once",
        protocol=Protocol.SELF_ANY,
        metrics=(PSNR, SSIM, PERCEPTUAL, KID, CSIM, PRMSE, AUCON, LIP_GAP_SLOPE, GAZE_ERROR, _SHARP),
        rows=_ROWS,
    ),
    "ablation-cross": ExperimentTable(
        title="Additions, each left out once",
        protocol=Protocol.CROSS,
        metrics=(KID, CSIM, PRMSE, AUCON, LIP_GAP_SLOPE, GAZE_ERROR, _SHARP),
        rows=_ROWS,
    ),
}
"""Name on the command line to table; both are of the same trainings."""
