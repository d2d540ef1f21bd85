"""A record of consent to fill in: `fedreenact consent`."""

from __future__ import annotations

import json
from pathlib import Path

from data_partition.consent.kinds import Role
from data_partition.consent.record import CONSENT_NAME, consent_file, is_consent_file
from data_partition.shards.shard import INFO_NAME, shard_folders
from data_partition.sources.records import visible
from data_partition.sources.video import is_clip, is_picture, source_sha256
from model.checkpoint import round_folders
from model.errors import ConfigError
from model.files import write_text

_TEMPLATE = """\
# What {name} agreed to. `fedreenact prepare` takes this file into the dataset; docs/consent.md says more.
# Dates stand without quotes. Take the sign # away from lines that you fill in.

# Every record says:
id = ""                     # name of the record where it is kept, for example "2026-014"
person = {person}
roles = []                  # what the person agreed to: {roles} (is learnt from, is drawn, moves another)
purpose = ""                # what for, in a sentence
#given = 2026-01-31         # first day on which it holds
#expires = 2027-01-31       # last day
evidence = ""               # where the signed text or the recording is kept

# Where it applies:
#version = 1                # one more for every change
#resolved_by = ""           # who knows whom the pseudonym means
#audience = ""              # who may see results
#forbidden = ""             # what the person ruled out
#revoked = 2026-06-30       # the person withdrew: nothing is allowed from then on
#obtained = ""              # how: on paper, in a recording, by whom
#text_sha256 = ""           # of the text agreed to: sha256sum FORM.pdf
#guardian = ""              # who agreed in the place of a minor
#controller = ""            # who answers for the data
#contact = ""
#withdrawal = ""            # how the person withdraws
#synthetic = true           # nobody is shown: the person is drawn
{sources}
"""
_SOURCES = "source_sha256 = {digests}  # pictures and clips that may be the source of a result, by sha256sum"


def write_template(entry: Path) -> Path:
    """Write a record to fill in for a person's folder, picture or clip.

    Args:
        entry: the person's folder, or a file that shows the person: the record allows it as a source then.

    Returns:
        The file, where `prepare` and `reenact` look for it.

    Raises:
        ConfigError: if there is a record already, or `entry` is nothing of a person: a dataset, a run, or a folder in
            which several people have records.
        DataError: if the folder cannot be listed.
        OSError: if it cannot be written.
    """
    if (entry / INFO_NAME).is_file():
        raise ConfigError(
            f"{entry}: a shard; give the person's folder of videos, `prepare` takes the record from there"
        )
    if not (entry.is_dir() or (entry.is_file() and (is_picture(entry) or is_clip(entry)))):
        raise ConfigError(f"{entry}: wanted the folder of a person, a picture or a video that is there")
    if entry.is_dir():
        _require_of_one(entry)
    path = consent_file(entry)
    if path.exists():
        raise ConfigError(f"{path}: is there already; change it, or move it away for an empty one")
    name = entry.resolve().name if entry.is_dir() else entry.stem
    digests = json.dumps([] if entry.is_dir() else [source_sha256(entry)])
    text = _TEMPLATE.format(
        name=name,
        person=json.dumps(name, ensure_ascii=False),
        roles=", ".join(json.dumps(role) for role in Role),
        sources=("#" if entry.is_dir() else "") + _SOURCES.format(digests=digests),
    )
    write_text(path, text)
    return path


def may_be_of_several(entry: Path) -> bool:
    """Whether a folder has more than one folder or video in it: one person's clips, or several people's."""
    return entry.is_dir() and sum(one.is_dir() or is_clip(one) for one in visible(entry)) > 1


def _require_of_one(folder: Path) -> None:
    """Refuse a folder that is known not to be a person's."""
    if shards := shard_folders(folder):
        what = f"a dataset, {shards[0].name} is a shard; give the people's folders of videos"
    elif rounds := round_folders(folder):
        what = f"a run folder, {rounds[0].name} is in it; give the people's folders of videos"
    elif records := [one for one in sorted(folder.iterdir()) if _is_record_of_one_inside(one)]:
        what = f"a folder of several people, {records[0].name} has a record; give {folder}/*"
    else:
        return
    raise ConfigError(f"{folder}: {what}")


def _is_record_of_one_inside(one: Path) -> bool:
    return (one.name != CONSENT_NAME and is_consent_file(one)) or (one / CONSENT_NAME).is_file()
