"""What a site should read before it approves settings: what they allow, what would leave, what is known to leak."""

from __future__ import annotations

from dataclasses import fields

from client.consent.egress import inventory
from client.consent.policy import SitePolicy
from federation.privacy_accountant import DELTA, composed_mu, epsilon_of
from federation.settings import MEANINGS, Settings
from model.designs.registry import design_of, has_base, travelling_bytes
from model.setting import Leeway

_FEW_PAIRS = 1000
_WEAK_EPSILON = 10.0


def allowed(settings: Settings) -> list[str]:
    """The run in words."""
    model, rounds, optimizer = settings.model, settings.rounds, settings.optimizer
    design = design_of(model.network)
    multiplier = settings.privacy.dp_noise_multiplier
    pairs = rounds.local_steps * optimizer.batch_size
    network = f"{model.network} ({model.backbone})" if "backbone" in design.settings else model.network
    weights = design.term_weights(settings.loss)
    terms = [f"{name.replace('_', '-')} {weight:g}" for name, weight in weights.items() if weight]
    free = ", ".join(key for key, meaning in MEANINGS.items() if meaning.leeway is Leeway.ANY)
    halving = optimizer.decay_halving_steps
    falling = f", halved every {halving} steps from step {optimizer.decay_from_step} on" if halving else ""
    return [
        f"network {network} on images of {model.image_size_px} x {model.image_size_px} px, "
        f"{travelling_bytes(model) / 2**20:.1f} MiB",
        f"at most {rounds.max_rounds} rounds of {rounds.local_steps} steps x {optimizer.batch_size} = {pairs} "
        "pairs of this site's frames",
        f"{rounds.num_clients} sites, of which at least {rounds.min_fit_clients} make a round",
        f"learning rates {optimizer.learning_rate_generator:g} and {optimizer.learning_rate_discriminator:g}{falling}; "
        f"losses: {', '.join(terms)}",
        f"secure sum: {'on' if settings.privacy.secure_aggregation else 'off'}; noise: "
        + (f"dp-noise-multiplier {multiplier:g}" if multiplier else "none"),
        f"a run may change as it likes: {free}",
    ]


def leaving(settings: Settings) -> list[str]:
    """What would leave the site, and how much; `fedreenact egress` has every tensor."""
    items = inventory(settings)
    once = [item for item in items if item.when == "once"]
    each = [item for item in items if item.when != "once"]
    num_once, num_each = (sum(item.num_bytes for item in part) for part in (once, each))
    arrays = sum(bool(item.shape) for item in each)
    rounds = settings.rounds.max_rounds
    return [
        f"once, {num_once:,} bytes: {', '.join(item.name for item in once)}",
        f"every round, {num_each:,} bytes: {arrays} arrays and {len(each) - arrays} numbers",
        f"in all, at most {num_once + rounds * num_each:,} bytes; a round that is repeated leaves again",
    ]


def limits(policy: SitePolicy) -> list[str]:
    """Every limit of the site as its node config would say it."""
    return [f"{field.name.replace('_', '-')} = {getattr(policy, field.name):g}" for field in fields(policy)]


def warnings(settings: Settings, policy: SitePolicy) -> list[str]:
    """What is known to leak under these settings."""
    pairs = settings.rounds.local_steps * settings.optimizer.batch_size
    found = [_who_sees_updates(settings), _what_noise_promises(settings)]
    if pairs < _FEW_PAIRS:
        found.append(f"An update is made of {pairs} pairs: the fewer, the more it says about each.")
    if settings.waiting.local_time_limit_s:
        found.append(
            f"A round may end early; an update of fewer than min-samples-per-round = {policy.min_samples_per_round} "
            "pairs is not sent."
        )
    if design_of(settings.model.network).identity_rows:
        found.append(
            "The rows of the identity embeddings that this site alone trains are seen by the server in a sum too."
        )
    if has_base(settings.model):
        found.append(
            "The sums for lgan-base, once, say how this site's person turns the head and moves the face on average, "
            "and which movements go together."
        )
    if settings.defence.aggregation == "krum":
        found.append("With aggregation krum the model that all sites get is the update of a single one.")
    return [
        *found,
        "The sums of landmarks that leave before round 1 are of one person where a site holds one: a template of the "
        "shape of that face, by which the person can be recognised.",
        "The trained model has learnt the people it was trained on: whoever gets it holds personal data.",
    ]


def _who_sees_updates(settings: Settings) -> str:
    if not settings.privacy.secure_aggregation:
        return "No secure-aggregation: the server sees this site's update by itself."
    fewest, num_sites = settings.rounds.min_fit_clients, settings.rounds.num_clients
    return (
        f"The server sees sums of {fewest} or more sites (min-fit-clients), and chooses which of the {num_sites} are "
        f"in; {fewest - 1} of them that help it, or sites that it invents, can subtract their own."
    )


def _what_noise_promises(settings: Settings) -> str:
    if not settings.privacy.dp_noise_multiplier:
        return (
            "No noise: nothing bounds what an update says about a frame. A site refuses weights that the run cannot "
            "have made, and does not send updates that few steps made: that stops attacks that were tried, and not all "
            "(docs/privacy.md)."
        )
    epsilon = epsilon_of(composed_mu([(settings.privacy.dp_noise_multiplier, settings.rounds.max_rounds)]))
    weak = "; that promises little" if epsilon > _WEAK_EPSILON else ""
    return f"Noise: epsilon {epsilon:.3g} at delta {DELTA:g} after {settings.rounds.max_rounds} rounds{weak}."
