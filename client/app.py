"""Flower ClientApp: turns messages into calls of local training and back."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Any

import numpy.typing as npt
import torch
from flwr.app import Context
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp

from client.coded_weights import CodedWeights
from client.consent.approval import Approval
from client.consent.egress import training_scalars
from client.consent.known_data import check_known_data
from client.consent.known_weights import KnownWeights
from client.consent.privacy_ledger import LEDGER_NAME, ReleaseLedger, noised_answer
from client.node_config import NodeConfig, check_launch
from client.secure_sum.node_keys import signatures_of
from client.secure_sum.statistics_secret import statistics_secret
from client.secure_sum.unmasking_record import RECORD_NAME
from client.secure_sum.update import SecureUpdate, is_secure
from client.site import Site, open_site
from client.supernode.refused_tasks import RefusedTasks
from data_partition.statistics import local_statistics, pooled_statistics
from federation.codec import codec_of
from federation.local_training import LocalResult, RoundTask, check_start, new_salt, train_locally
from federation.packing import pack, unpack
from federation.secure_sum.masking import Phase
from federation.secure_sum.primitives import SecureSumError
from federation.settings import Settings
from federation.stacks import Progress
from model.config import LossConfig
from model.designs.registry import design_of, has_base, travelling_shapes
from model.errors import (
    ConfigError,
    FederationError,
    NonFiniteLossError,
    OneSidedUpdateError,
    TensorMismatchError,
    UnknownWeightsError,
)
from model.landmarks.geometry import PartSizes
from model.networks.bundle import NamedArrays
from model.run_files import RoundFiles, RunFiles
from model.setting import Scalar
from model.training.moments import MomentStore
from model.training.perceptual import PerceptualLoss
from model.training.trainer import pick_device

_log = logging.getLogger(__name__)

Arrays = list[npt.NDArray[Any]]
FitResult = tuple[Arrays, int, dict[str, Scalar]]

_SPEAKABLE_ERRORS = (
    ConfigError,
    NonFiniteLossError,
    OneSidedUpdateError,
    SecureSumError,
    TensorMismatchError,
    UnknownWeightsError,
)
"""Errors whose messages name settings, terms, tensors and sites only, never a site's folders."""


class FedReenactClient(NumPyClient):  # type: ignore[misc]
    """One site, for the length of one message; the edge at which errors become text that may leave the site."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def fit(self, parameters: Arrays, config: dict[str, Scalar]) -> FitResult:
        """Answer the phase that config names: `statistics` (before round 1), `train`, or one of a secure round.

        Raises:
            FederationError: if the site cannot answer; the message never names a deployed site's files.
        """
        node_config = self._context.node_config
        try:
            node = NodeConfig.from_flat(node_config)
            if not node.is_simulated:
                check_launch()
            settings = Settings.from_flat(self._context.run_config)
            if not node.is_simulated:
                Approval.read(node.approved_settings).check_run(settings)
            site = open_site(settings, node)
            if site.policy is not None:
                site.policy.check_run(settings, site.data.num_examples)
            if config["phase"] == "statistics":
                return _statistics(settings, site)
            if is_secure(config["phase"]) is not settings.privacy.secure_aggregation:
                raise ConfigError(
                    f"secure-aggregation is {settings.privacy.secure_aggregation}, the server asks for phase "
                    f"{config['phase']!r}; such an update is not sent"
                )
            if settings.privacy.secure_aggregation:
                return _secure_phase(settings, site, node, parameters, config)
            return _train(settings, site, parameters, config)
        except Exception as error:
            where = {"round": config.get("server-round", 0), "site": node_config.get("partition-id", "?")}
            _log.exception("client %s failed", where["site"], extra=where)
            is_speakable = isinstance(error, _SPEAKABLE_ERRORS) or "num-partitions" in node_config
            reason = str(error) if is_speakable else "the site's own log says more"
            raise FederationError(f"{type(error).__name__}: {reason}") from None


def _statistics(settings: Settings, site: Site) -> FitResult:
    """Who this is, and the statistics; under secure aggregation they are for a sum alone, and do not leave here."""
    model, is_summed = settings.model, settings.privacy.secure_aggregation
    arrays: Arrays = []
    if not is_summed:
        arrays = list(
            local_statistics(
                site.data,
                num_identities=model.num_identities,
                size_px=model.image_size_px,
                has_base=has_base(model),
            )
        )
    labels = {f"label-{index}": label for index, label in site.labels.items()}
    scalars: dict[str, Scalar] = {"partition-id": site.partition_id, "num-simulated": site.num_simulated}
    return arrays, 0 if is_summed else site.data.num_examples, scalars | labels


def _train(settings: Settings, site: Site, parameters: Arrays, config: dict[str, Scalar]) -> FitResult:
    if len(parameters) != 1:
        raise TensorMismatchError(f"got {len(parameters)} arrays, expected 1; does the server run the same version?")
    coded = _coded(settings, site, config)
    start = _received(settings, coded, config, parameters[0])
    result = _reported(settings, site, start, config)
    allowed = training_scalars(settings)
    metrics: dict[str, Scalar] = {k: float(v) for k, v in result.metrics.items() if k in allowed}
    sent = coded.sent(start, result.tensors) if coded else pack(result.tensors)
    return [sent], result.num_examples, metrics


def _received(
    settings: Settings, coded: CodedWeights | None, config: dict[str, Scalar], weights: npt.NDArray[Any]
) -> NamedArrays:
    """The tensors with which a round starts."""
    if coded is None:
        return unpack(weights, travelling_shapes(settings.model))
    return coded.received(weights, str(config["weights-sha256"]))


def _coded(settings: Settings, site: Site, config: dict[str, Scalar]) -> CodedWeights | None:
    """What turns weights into what travels; None where they travel as they are."""
    shapes = travelling_shapes(settings.model)
    codec = codec_of(settings.rounds.update_codec, shapes)
    if codec is None:
        return None
    errors = RoundFiles(
        files=RunFiles(folder=site.state_dir, run_id=str(config["run-id"])),
        name="rounding",
        what="rounding errors",
        num_kept=settings.run.keep_checkpoints,
    )
    known = _known(site, config)
    return CodedWeights(codec, shapes, int(config["server-round"]), known=known, errors=errors)


def _known(site: Site, config: dict[str, Scalar]) -> KnownWeights:
    max_missed_rounds = site.policy.max_missed_rounds if site.policy is not None else 0
    return KnownWeights(site.state_dir, str(config["run-id"]), max_missed_rounds=max_missed_rounds)


def _secure_phase(
    settings: Settings, site: Site, node: NodeConfig, parameters: Arrays, config: dict[str, Scalar]
) -> FitResult:
    update = SecureUpdate(site.state_dir, site.partition_id, settings, signatures_of(node), config)
    if config["phase"] == Phase.KEYS:
        return update.keys()
    if config["phase"] == Phase.SHARES:
        return update.shares(parameters)
    if config["phase"] == Phase.AGREE:
        return update.agreed(parameters)
    if config["phase"] == Phase.UNMASK:
        return update.revealed(parameters)
    if config["phase"] == Phase.STATISTICS:
        return update.masked_statistics(
            parameters,
            lambda: pooled_statistics(
                site.data,
                size_px=settings.model.image_size_px,
                secret=statistics_secret(site.state_dir),
                has_base=has_base(settings.model),
            ),
        )
    part_sizes = PartSizes.from_flat(config)
    return update.masked_update(
        parameters,
        part_sizes=part_sizes,
        identity_counts_I=site.data.identity_counts(settings.model.num_identities),
        received=functools.partial(_received, settings, _coded(settings, site, config), config),
        train=lambda tensors: _reported(settings, site, tensors, config),
    )


@functools.lru_cache(maxsize=1)  # a simulation's worker serves many rounds
def _perceptual(network: str, loss: LossConfig) -> PerceptualLoss | None:
    return design_of(network).load_perceptual(loss)


def _reported(settings: Settings, site: Site, tensors: NamedArrays, config: dict[str, Scalar]) -> LocalResult:
    """The site's update, and how many tasks the site has refused so far."""
    result = _trained(settings, site, tensors, config)
    refused = float(RefusedTasks(site.state_dir).total())
    return dataclasses.replace(result, metrics=result.metrics | {"refused_tasks": refused})


def _trained(settings: Settings, site: Site, tensors: NamedArrays, config: dict[str, Scalar]) -> LocalResult:
    """The site's update, noised if the run asks for it; refused from unknown weights, and if too little made it.

    Under noise nothing before the count looks at a frame, and nothing after it is told: see `noised_answer`.
    """
    part_sizes, round_number = PartSizes.from_flat(config), int(config["server-round"])
    last = settings.rounds.max_rounds
    if not 1 <= round_number <= last:
        raise ConfigError(f"the server asks for round {round_number}, wanted 1 to max-rounds = {last}")
    task = RoundTask(
        round_number=round_number,
        partition_id=site.partition_id,
        part_sizes=part_sizes,
        fails_late=settings.privacy.dp_noise_multiplier > 0,
        salt=new_salt() if settings.privacy.secure_aggregation else None,
    )
    run_id = str(config["run-id"])
    _warn_of_missing_records(settings, site, round_number)
    if site.policy is not None or task.fails_late:
        check_start(settings, part_sizes, tensors)
    if site.policy is not None:
        _known(site, config).accept(tensors, settings=settings, part_sizes=part_sizes, round_number=round_number)
        check_known_data(site.state_dir, run_id, site.data.frames[0].shard)
    elif settings.rounds.update_codec != "float32":
        _known(site, config).keep(tensors, round_number)
    torch.set_num_threads(settings.optimizer.num_threads)
    train = functools.partial(
        _train_and_check,
        settings,
        site,
        task,
        tensors,
        moments=MomentStore(folder=site.state_dir, run_id=run_id, num_kept=settings.run.keep_checkpoints),
        perceptual=_perceptual(settings.model.network, settings.loss),
        device=pick_device(settings.optimizer.device),
    )
    if not settings.privacy.dp_noise_multiplier:
        return train()
    return noised_answer(
        train,
        tensors,
        clip_norm=settings.privacy.dp_clip_norm,
        noise_multiplier=settings.privacy.dp_noise_multiplier,
        ledger=ReleaseLedger(site.state_dir, [part.shard.identity for part in site.data.frames]),
        max_epsilon=site.policy.max_epsilon if site.policy is not None else 0.0,
    )


def _warn_of_missing_records(settings: Settings, site: Site, round_number: int) -> None:
    """Say in the site's log that a file is not there on which a promise over all runs rests.

    Without it nothing was told before, as far as the site knows. In the first round it may never have been made.
    """
    needed = {
        LEDGER_NAME: site.policy is not None and site.policy.max_epsilon > 0,
        RECORD_NAME: settings.privacy.secure_aggregation,
    }
    for name, is_needed in needed.items():
        if is_needed and round_number > 1 and not (site.state_dir / name).exists():
            _log.warning(
                "round %d: %s is not in the state folder, and what was told before counts as nothing; if this site "
                "took part before, stop it and restore the file (docs/operations.md, What a site must keep)",
                round_number,
                name,
            )


def _train_and_check(settings: Settings, site: Site, task: RoundTask, tensors: NamedArrays, **rest: Any) -> LocalResult:
    """What was trained from the site's frames, if enough of them made it. `rest` is for `train_locally`."""
    result = train_locally(task, tensors, settings=settings, data=site.data, on_step=lambda _: Progress.made(), **rest)
    num_steps = int(result.metrics["num_steps"])
    if site.policy is not None:
        site.policy.check_steps(settings, task.round_number, num_steps)
        if result.one_sided:
            raise OneSidedUpdateError(
                f"round {task.round_number}: {result.one_sided}; such an update may show a single frame and is not sent"
            )
    _log.info(
        "round %d: %d local steps in %.0f s, L_G %.3f",
        task.round_number,
        num_steps,
        result.metrics["seconds"],
        result.metrics["loss_generator"],
        extra={"round": task.round_number, "site": site.partition_id},
    )
    return result


def client_fn(context: Context) -> Client:
    """The client that answers one message."""
    return FedReenactClient(context).to_client()


app = ClientApp(client_fn=client_fn)
