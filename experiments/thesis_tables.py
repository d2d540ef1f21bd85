"""The tables of thesis chapter 4: their rows as settings, their protocols, and the numbers printed in them.

Published numbers are the thesis' own, for the reader to look at: other data, other size, and ArcFace and OpenFace in
place of this project's backends.
"""

from __future__ import annotations

from dataclasses import replace

from evaluation.metrics.catalogue import AUCON, CSIM, PRMSE, PSNR, SSIM
from evaluation.pairs import Protocol
from experiments.table import FOLLOWING_USE_FLOW, ExperimentTable, ModelRow
from model.setting import Scalar
from reenact.guidance_choice import Guidance, MotionKind
from server.training import Mode

_CROSS_METRICS = (CSIM, PRMSE, AUCON)
_PLAIN: dict[str, Scalar] = {"use-style": False}
_VIT: dict[str, Scalar] = {"backbone": "vit"}
_RESNET: dict[str, Scalar] = {"backbone": "resnet34"}


def _row(
    label: str,
    changes: dict[str, Scalar],
    guidance: Guidance = Guidance.DRIVING,
    mode: Mode = Mode.CENTRALIZED,
) -> ModelRow:
    return ModelRow(label=label, changes=changes, guidance=guidance, mode=mode)


_X2FACE = _row("X2Face", {"network": "x2face"}, Guidance.AUTO)
_MONKEY_NET = _row("Monkey-Net", {"network": "monkeynet"})
_FIRST_ORDER = _row("FirstOrder", {"network": "fomm"})
_NEURAL_HEAD = _row("NeuralHead-FF", {"network": "neuralhead"})
_MARIONETTE = _row("MarioNETte", {"network": "marionette"})
_MESH_GCN = _row("Mesh Guided GCN", {"network": "meshgcn"})
_RELATIVE = tuple(
    replace(row, label=f"{row.label}, relative", motion=MotionKind.RELATIVE) for row in (_MONKEY_NET, _FIRST_ORDER)
)

THESIS_TABLES: dict[str, ExperimentTable] = {
    "table-4-2": ExperimentTable(
        title="Self-reenactment",
        protocol=Protocol.SELF_ANY,
        unseen_protocol=Protocol.SELF_UNSEEN,
        metrics=(CSIM, SSIM, PSNR, PRMSE, AUCON),
        rows=(
            _MESH_GCN,
            _MARIONETTE,
            _MONKEY_NET,
            _FIRST_ORDER,
            _NEURAL_HEAD,
            _X2FACE,
            _row("ViT", _VIT | _PLAIN),
            _row("ResNet", _RESNET | _PLAIN),
        ),
        published=(
            ("Mesh Guided GCN", "0.822", "0.739", "30.394", "3.20", "0.887"),
            ("MarioNETte", "0.755", "0.744", "23.244", "3.13", "0.825"),
            ("Monkey-Net", "0.697", "0.734", "23.472", "3.46", "0.770"),
            ("FirstOrder", "0.813", "0.723", "30.182", "3.79", "0.886"),
            ("NeuralHead-FF", "0.229", "0.635", "20.818", "3.76", "0.791"),
            ("X2face", "0.689", "0.719", "22.537", "3.26", "0.813"),
            ("ViT", "0.879", "0.608", "29.297", "1.97", "0.767"),
            ("ResNet", "0.878", "0.650", "29.606", "1.58", "0.793"),
        ),
    ),
    "table-4-3": ExperimentTable(
        title="Reenacting different identities, people the models have not seen",
        protocol=Protocol.CROSS_UNSEEN,
        unseen_protocol=Protocol.CROSS_UNSEEN,
        metrics=_CROSS_METRICS,
        rows=(
            _MESH_GCN,
            _MARIONETTE,
            replace(_MARIONETTE, label="MarioNETte+LSt", guidance=Guidance.LST),
            _MONKEY_NET,
            _FIRST_ORDER,
            *_RELATIVE,
            _NEURAL_HEAD,
            replace(_NEURAL_HEAD, label="NeuralHead-FF+LSt", guidance=Guidance.LST),
            _X2FACE,
            _row("ViT", _VIT | _PLAIN),
            _row("ResNet", _RESNET | _PLAIN),
        ),
        published=(
            ("MarioNETte", "0.520", "3.41", "0.710"),
            ("Mesh Guided GCN", "0.635", "3.41", "0.709"),
            ("Monkey-Net", "0.451", "4.81", "0.584"),
            ("FirstOrder", "0.462", "3.90", "0.667"),
            ("NeuralHead-FF", "0.108", "3.30", "0.722"),
            ("X2face", "0.450", "3.62", "0.679"),
            ("ViT", "0.525", "2.95", "0.694"),
            ("ResNet", "0.515", "2.35", "0.708"),
        ),
    ),
    "table-4-4": ExperimentTable(
        title="Reenacting different identities, people the models know",
        protocol=Protocol.CROSS,
        metrics=_CROSS_METRICS,
        rows=(
            _X2FACE,
            _row("ViT", _VIT | _PLAIN),
            _row("ViT+LGAN+Style", _VIT, Guidance.LGAN),
            _row("ResNet", _RESNET | _PLAIN),
            _row("ResNet+LGAN+Style", _RESNET, Guidance.LGAN),
        ),
        published=(
            ("X2Face", "0.467", "8.12", "0.611"),
            ("ViT", "0.568", "2.77", "0.692"),
            ("ViT+LGAN+Style", "0.653", "2.66", "0.675"),
            ("ResNet", "0.570", "2.57", "0.695"),
            ("ResNet+LGAN+Style", "0.661", "2.68", "0.672"),
        ),
    ),
    "table-4-5": ExperimentTable(
        title="Landmark estimation",
        protocol=Protocol.CROSS,
        metrics=_CROSS_METRICS,
        rows=(
            _row("ViT", _VIT | _PLAIN),
            _row("ViT+LSt", _VIT | _PLAIN, Guidance.LST),
            _row("ViT+LGAN", _VIT | _PLAIN, Guidance.LGAN),
            _row("ResNet", _RESNET | _PLAIN),
            _row("ResNet+LSt", _RESNET | _PLAIN, Guidance.LST),
            _row("ResNet+LGAN", _RESNET | _PLAIN, Guidance.LGAN),
        ),
        published=(
            ("ViT", "0.568", "2.77", "0.692"),
            ("ViT+LSt", "0.620", "3.87", "0.646"),
            ("ViT+LGAN", "0.619", "2.60", "0.682"),
            ("ResNet", "0.570", "2.57", "0.695"),
            ("ResNet+LSt", "0.616", "3.78", "0.650"),
            ("ResNet+LGAN", "0.614", "2.49", "0.687"),
        ),
    ),
    "table-4-6": ExperimentTable(
        title="Style transfer",
        protocol=Protocol.CROSS,
        metrics=_CROSS_METRICS,
        rows=(
            _row("Style", _VIT | {"use-flow": False} | FOLLOWING_USE_FLOW),
            _row("ViT", _VIT | _PLAIN),
            _row("ViT+Style", _VIT),
            _row("ResNet", _RESNET | _PLAIN),
            _row("ResNet+Style", _RESNET),
        ),
        published=(
            ("Style", "0.647", "4.75", "0.646"),
            ("ViT", "0.568", "2.77", "0.692"),
            ("ViT+Style", "0.587", "3.22", "0.668"),
            ("ResNet", "0.570", "2.57", "0.695"),
            ("ResNet+Style", "0.606", "2.97", "0.670"),
        ),
    ),
    "table-4-7": ExperimentTable(
        title="Federated (F) against centralized (C) training",
        protocol=Protocol.CROSS,
        metrics=_CROSS_METRICS,
        rows=(
            _row("ResNet+Style (C)", _RESNET),
            _row("ResNet+Style (F)", _RESNET, mode=Mode.FEDERATED),
            _row("ResNet+Style+LGAN (C)", _RESNET, Guidance.LGAN),
            _row("ResNet+Style+LGAN (F)", _RESNET, Guidance.LGAN, Mode.FEDERATED),
            _X2FACE,
        ),
        published=(
            ("ResNet+Style (C)", "0.606", "2.97", "0.670"),
            ("ResNet+Style (F)", "0.555", "3.47", "0.665"),
            ("ResNet+Style+LGAN (C)", "0.661", "2.68", "0.672"),
            ("ResNet+Style+LGAN (F)", "0.601", "3.57", "0.672"),
        ),
    ),
}
"""Name on the command line to table. X2Face stands in Table 4.7 in addition to the thesis' rows, and in Table 4.3
other ways of driving a comparator of the same training."""
