"""Words of consent that a command line has; light to import."""

from enum import StrEnum


class Role(StrEnum):
    """What a person is used for."""

    SOURCE = "source"
    """Drawn: a result shows the person."""
    DRIVING = "driving"
    """Head movement and expression are taken from the person."""
    TRAINING = "training"
    """Networks learn from the person's frames."""


class WithoutConsent(StrEnum):
    """What an operator says of people of whom there is no record of consent."""

    SYNTHETIC = "synthetic"
    """Nobody is shown: drawn or invented faces."""
    PUBLIC = "public"
    """Published for this kind of use: a research dataset, a painting."""
