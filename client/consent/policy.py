"""What a deployed site lets a server have it do, decided by the site alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from data_partition.config import MIN_FRAMES_OF_BASE
from federation.settings import Settings
from model.errors import ConfigError
from model.files import json_of
from model.setting import Scalar


@dataclass(frozen=True, kw_only=True, slots=True)
class SitePolicy:
    """Limits in a site's node config, in kebab-case; a run whose settings pass one is refused.

    What leaves a site is fixed by its own code, and the settings of a run by what the site approved (`approval.py`).
    These limits hold for what may be approved, and for what was really done before an update leaves.
    """

    min_frames: int = 30
    """Training frames below which the site takes no part: means over a few frames say much about each. With
    secure-aggregation those count over which statistics are taken, a random half of the site's."""
    min_samples_per_round: int = 100
    """Pairs of a round, steps x batch-size, below which it is refused: pictures can be reconstructed from an update of
    few samples. The steps that compute a term of the loss count for that term, and the steps that were really made."""
    max_learning_rate: float = 0.01
    """Learning rate above which a round is refused: a single step as large as the weights carries more of its batch."""
    max_local_steps: int = 10_000
    """Local steps of a round above which it is refused."""
    max_image_size_px: int = 512
    """Image side above which a run is refused."""
    max_update_mib: int = 512
    """MiB of the tensors of an update above which a run is refused, before its networks are built."""
    min_sites_in_sum: int = 0
    """Fewest sites whose updates the server may see summed; 0 lets it see this site's alone, without
    secure-aggregation."""
    min_noise_multiplier: float = 0.0
    """dp-noise-multiplier below which a run is refused."""
    max_epsilon: float = 0.0
    """Epsilon (delta 1e-5) of all noised updates of the person together, over all runs, above which no further one is
    made; runs without noise, of which epsilon is infinite, are refused. 0 sets no limit."""
    max_missed_rounds: int = 10
    """Rounds between the weights that the site knows and those it is sent above which a round is refused: each of them
    may have moved the weights further. 0 sets no limit."""

    @classmethod
    def from_node_config(cls, node_config: Mapping[str, Scalar]) -> SitePolicy:
        """The limits that the node config names, the defaults for the others.

        Raises:
            ConfigError: for a limit that is not a finite number >= 0.
        """
        chosen: dict[str, float] = {}
        for field in fields(cls):
            key = field.name.replace("_", "-")
            value = node_config.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigError(f"node config: got {key} {value!r}, wanted a number >= 0")
            chosen[field.name] = value
        return cls(**chosen)  # type: ignore[arg-type]

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> SitePolicy:
        """The limits of texts of KEY=VALUE, several with spaces between them, the defaults for the others.

        Raises:
            ConfigError: for an unknown key or a value that is no number.
        """
        known = [field.name.replace("_", "-") for field in fields(cls)]
        chosen: dict[str, Scalar] = {}
        for text in " ".join(texts).split():
            key, _, value = text.partition("=")
            if key not in known:
                raise ConfigError(f"limit {text!r}: wanted KEY=VALUE with a KEY of {', '.join(known)}")
            try:
                chosen[key] = json_of(value)
            except ValueError as error:
                raise ConfigError(f"limit {key}: got {value!r}, wanted a number") from error
        return cls.from_node_config(chosen)

    def check_run(self, settings: Settings, num_frames: int) -> None:
        """Refuse a run.

        Args:
            settings: what the server asks for.
            num_frames: the site's training frames.

        Raises:
            ConfigError: naming the setting, what the server asks, and the site's limit.
        """
        from model.designs.registry import has_base  # see check_steps

        frames, num_summed = "training frames", num_frames
        if settings.privacy.secure_aggregation:  # data_partition/statistics.py `pooled_statistics`
            frames, num_summed = "training frames in the half that secure-aggregation sums", (num_frames + 1) // 2
        if num_summed < self.min_frames:  # the text goes to the server, which need not know the number
            raise ConfigError(f"site policy: this site has fewer {frames} than its min-frames = {self.min_frames:g}")
        if num_summed < MIN_FRAMES_OF_BASE and has_base(settings.model):
            raise ConfigError(
                f"site policy: lgan-base = {settings.model.lgan_base} needs {MIN_FRAMES_OF_BASE} {frames}, this site "
                "has fewer: sums over so few would tell the landmarks of single frames. Add frames, or approve "
                "lgan-base = none"
            )
        self.check_settings(settings)

    def check_settings(self, settings: Settings) -> None:
        """The part of `check_run` that knows no frames; raises as it does."""
        from model.designs.registry import travelling_bytes  # see check_steps

        optimizer = settings.optimizer
        num_samples = settings.rounds.local_steps * optimizer.batch_size
        _at_least("local-steps x batch-size", num_samples, self.min_samples_per_round, "min-samples-per-round")
        rate = max(optimizer.learning_rate_generator, optimizer.learning_rate_discriminator)
        _at_most("learning rate", rate, self.max_learning_rate, "max-learning-rate")
        _at_most("local-steps", settings.rounds.local_steps, self.max_local_steps, "max-local-steps")
        _at_most("image-size-px", settings.model.image_size_px, self.max_image_size_px, "max-image-size-px")
        num_mib = travelling_bytes(settings.model) / 2**20
        is_whole = settings.rounds.update_codec == "float32"
        num_mib *= 2 if settings.privacy.secure_aggregation and is_whole else 1  # 64 bits for a value of 32
        _at_most("MiB of an update", num_mib, self.max_update_mib, "max-update-mib")
        num_summed = settings.rounds.min_fit_clients if settings.privacy.secure_aggregation else 0
        _at_least("min-fit-clients under secure-aggregation", num_summed, self.min_sites_in_sum, "min-sites-in-sum")
        noise = settings.privacy.dp_noise_multiplier
        _at_least("dp-noise-multiplier", noise, self.min_noise_multiplier, "min-noise-multiplier")
        if self.max_epsilon and not noise:  # with noise the site's ledger decides, before every training
            _at_most("epsilon without dp-noise-multiplier", math.inf, self.max_epsilon, "max-epsilon")
        for round_number in range(1, settings.rounds.max_rounds + 1):
            self.check_steps(settings, round_number, settings.rounds.local_steps)

    def check_steps(self, settings: Settings, round_number: int, num_steps: int) -> None:
        """Refuse an update that too few samples made: all of it, or what one term of the loss adds to it.

        Args:
            settings: of the run.
            round_number: counted from 1.
            num_steps: local steps made in it.

        Raises:
            ConfigError: naming the round and the term.
        """
        # Here and not above: a site's processes read their limits before they send a first sign of life, for which
        # Flower waits half a minute, and PyTorch takes seconds to import.
        from model.designs.registry import design_of

        batch_size, first_step = settings.optimizer.batch_size, (round_number - 1) * settings.rounds.local_steps
        made = f"steps made x batch-size in round {round_number}"
        _at_least(made, num_steps * batch_size, self.min_samples_per_round, "min-samples-per-round")
        design = design_of(settings.model.network)
        for term, steps in design.term_steps(settings.loss, first_step, num_steps).items():
            if steps:
                what = f"steps with {term.replace('_', '-')} x batch-size in round {round_number}"
                _at_least(what, steps * batch_size, self.min_samples_per_round, "min-samples-per-round")


def _at_least(what: str, got: float, limit: float, key: str) -> None:
    if got < limit:
        raise ConfigError(f"site policy: {what} is {got:g}, this site wants at least {key} = {limit:g}")


def _at_most(what: str, got: float, limit: float, key: str) -> None:
    if got > limit:
        raise ConfigError(f"site policy: {what} is {got:g}, this site wants at most {key} = {limit:g}")
