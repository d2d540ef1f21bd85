"""The signed manifest in a file: what made it, of what, and that nothing of it was changed since (C2PA 2.2).

It names no person. Nothing is asked of the network: no time stamp, no revocation, no manifest that lies elsewhere.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import c2pa

from data_partition.consent.kinds import WithoutConsent
from data_partition.consent.record import ConsentUse
from model.errors import DataError
from model.files import json_of
from reenact.marks.key import MarkingKey
from reenact.marks.kinds import Kind, Label, LabelException
from reenact.marks.watermark import ALGORITHM, RECORD_BITS

MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4"}
"""By the suffix of what is delivered."""
MADE_OF = "org.fedreenact.made-of"
"""Name of the assertion with hashes and record."""
_SOURCE_TYPES = {
    Label.GENERATED: "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    Label.MODIFIED: "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
}
_NOT_FOR_TRAINING = ("cawg.ai_generative_training", "cawg.ai_training", "cawg.ai_inference", "cawg.data_mining")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What a result is and was made of."""

    label: Label
    """What it is, whether or not that is written on it."""
    kind: Kind = Kind.RESULT
    """What it is for, and so which marks it has."""
    exception: LabelException | None = None
    """Why it is not."""
    record: int
    """Number in the watermark."""
    model_sha256: str
    consents: tuple[ConsentUse, ...] = ()
    """Records of consent of the people in it."""
    without_consent: WithoutConsent | None = None
    """What is said of people in it who have none."""

    @property
    def has_watermark(self) -> bool:
        """Whether there is an invisible one."""
        return self.kind is not Kind.TO_MEASURE

    @property
    def has_label(self) -> bool:
        """Whether there is a visible one."""
        return self.has_watermark and self.exception is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a file's manifest says."""

    state: str
    """`Trusted`, `Valid` (signed by a key that nobody said to trust) or `Invalid`."""
    signer: str
    """Organisation in the certificate."""
    problems: tuple[str, ...]
    """What does not hold."""
    made_of: dict[str, Any]
    """The assertion of this program; empty for a manifest of another."""

    @property
    def is_intact(self) -> bool:
        """Whether nothing was changed since it was signed."""
        return self.state in ("Trusted", "Valid")


def sign(source: BinaryIO, target: BinaryIO, media_type: str, origin: Origin, key: MarkingKey) -> None:
    """Write a file with its manifest.

    Args:
        source: the file, marked otherwise.
        target: empty; open for reading and writing.
        media_type: one of `MEDIA_TYPES`.
        origin: what it was made of.
        key: signs.

    Raises:
        DataError: if the key cannot sign or the file cannot hold a manifest.
    """
    info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, key.chain(), key.private(), None)
    try:
        with c2pa.Signer.from_info(info) as signer, _context() as context:
            c2pa.Builder(_definition(origin, media_type), context=context).sign(signer, media_type, source, target)
    except c2pa.C2paError as error:
        raise DataError(f"{key.folder}: cannot sign ({error}); move the key away, a new one is made") from error


def read_manifest(path: Path, anchors: bytes = b"") -> Manifest | None:
    """The manifest of a file; None if it has none that can be read.

    Args:
        path: the file, of any name: what it is, its first bytes say.
        anchors: root certificates to trust, PEM.
    """
    try:
        with path.open("rb") as file, _context(anchors) as context, c2pa.Reader(file, context=context) as found:
            state, store = str(found.get_validation_state()), json_of(found.json())
    except c2pa.C2paError:
        return None
    active = store["manifests"][store["active_manifest"]]
    assertions = [one["data"] for one in active.get("assertions", ()) if one["label"] == MADE_OF]
    made_of = [data for data in assertions if isinstance(data, dict)]  # whoever signed may have written anything
    return Manifest(
        state=state,
        signer=active.get("signature_info", {}).get("issuer", "unknown"),
        problems=tuple(one["code"] for one in store.get("validation_status", ())),
        made_of=made_of[0] if made_of else {},
    )


def _definition(origin: Origin, media_type: str) -> str:
    agent = {"name": "fedreenact", "version": version("fedreenact")}
    actions = [{"action": "c2pa.created", "softwareAgent": agent, "digitalSourceType": _SOURCE_TYPES[origin.label]}]
    if origin.has_watermark:
        actions.append({"action": "c2pa.watermarked.bound"})
    if origin.has_label:
        actions.append({"action": "c2pa.edited", "description": f"visible label: {origin.label}"})
    assertions = {
        "c2pa.actions.v2": {"actions": actions},
        "cawg.training-mining": {"entries": {name: {"use": "notAllowed"} for name in _NOT_FOR_TRAINING}},
        MADE_OF: _made_of(origin),
    } | (_soft_binding(origin.record) if origin.has_watermark else {})
    return json.dumps(
        {
            "claim_generator_info": [agent],
            "format": media_type,
            "assertions": [{"label": label, "data": data} for label, data in assertions.items()],
        }
    )


def _made_of(origin: Origin) -> dict[str, Any]:
    return {
        "record": f"{origin.record:06x}",
        "label": origin.label,
        "kind": origin.kind,
        "label_exception": origin.exception or "",
        "model_sha256": origin.model_sha256,
        "consent_sha256": list(dict.fromkeys(use.record.sha256 for use in origin.consents)),
        "without_consent": origin.without_consent or "",
    }


def _soft_binding(record: int) -> dict[str, dict[str, Any]]:
    """The assertion that names the watermark."""
    value = base64.b64encode(record.to_bytes(RECORD_BITS // 8, "big")).decode()
    return {"c2pa.soft-binding": {"alg": ALGORITHM, "blocks": [{"scope": {}, "value": value}]}}


def _context(anchors: bytes = b"") -> c2pa.Context:
    trust = {"user_anchors": anchors.decode("ascii")} if anchors else {}
    return c2pa.Context.from_dict(
        {
            "builder": {"thumbnail": {"enabled": False}},
            "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
            "trust": trust,
        }
    )
