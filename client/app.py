"""Flower ClientApp: turns messages into calls of local training and back."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy.typing as npt
import torch
from flwr.app import Context
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp

from client.egress import training_scalars
from client.local_training import RoundTask, train_locally
from client.policy import SitePolicy
from client.site import Site, open_site
from data_partition.statistics import local_statistics
from model.config import Scalar, Settings
from model.errors import ConfigError, FederationError, NonFiniteLossError, TensorMismatchError
from model.landmarks import PartSizes
from model.moments import MomentStore
from model.perceptual import load_perceptual
from model.trainer import pick_device

_log = logging.getLogger(__name__)

Arrays = list[npt.NDArray[Any]]
FitResult = tuple[Arrays, int, dict[str, Scalar]]

_SPEAKABLE_ERRORS = (ConfigError, NonFiniteLossError, TensorMismatchError)
"""Errors whose messages name settings, terms and tensors only, never a site's files."""

_perceptual = functools.lru_cache(maxsize=1)(load_perceptual)  # a simulation's worker serves many rounds


class FedReenactClient(NumPyClient):  # type: ignore[misc]
    """One site, for the length of one message; the edge at which errors become text that may leave the site."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def fit(self, parameters: Arrays, config: dict[str, Scalar]) -> FitResult:
        """Answer the phase that config names: `statistics` (before round 1) or `train`.

        Raises:
            FederationError: if the site cannot answer; the message never names a deployed site's files.
        """
        node_config = self._context.node_config
        try:
            settings = Settings.from_flat(self._context.run_config)
            site = open_site(settings, node_config)
            if not site.num_simulated:
                SitePolicy.from_node_config(node_config).check_run(settings, site.data.num_examples)
            if config["phase"] == "statistics":
                return _statistics(settings, site)
            return _train(settings, site, parameters, config)
        except Exception as error:
            where = {"round": config.get("server-round", 0), "site": node_config.get("partition-id", "?")}
            _log.exception("client %s failed", where["site"], extra=where)
            is_speakable = isinstance(error, _SPEAKABLE_ERRORS) or "data-dir" not in node_config
            reason = str(error) if is_speakable else "the site's own log says more"
            raise FederationError(f"{type(error).__name__}: {reason}") from None


def _statistics(settings: Settings, site: Site) -> FitResult:
    model = settings.model
    arrays = local_statistics(site.data, num_identities=model.num_identities, size_px=model.image_size_px)
    labels = {f"label-{index}": label for index, label in site.labels.items()}
    scalars: dict[str, Scalar] = {"partition-id": site.partition_id, "num-simulated": site.num_simulated}
    return arrays, site.data.num_examples, scalars | labels


def _train(settings: Settings, site: Site, parameters: Arrays, config: dict[str, Scalar]) -> FitResult:
    torch.set_num_threads(settings.optimizer.num_threads)
    result = train_locally(
        RoundTask(
            round_number=int(config["server-round"]),
            partition_id=site.partition_id,
            part_sizes=PartSizes.from_flat(config),
        ),
        parameters,
        settings=settings,
        data=site.data,
        moments=MomentStore(
            folder=site.state_dir,
            run_id=str(config["run-id"]),
            num_kept=settings.federation.keep_checkpoints,
        ),
        perceptual=_perceptual(settings.loss),
        device=pick_device(settings.optimizer.device),
    )
    allowed = training_scalars(settings)
    _log.info(
        "round %s: %d local steps in %.0f s, L_G %.3f",
        config["server-round"],
        settings.federation.local_steps,
        result.metrics["seconds"],
        result.metrics["loss_generator"],
        extra={"round": config["server-round"], "site": site.partition_id},
    )
    metrics: dict[str, Scalar] = {k: float(v) for k, v in result.metrics.items() if k in allowed}
    return result.arrays, result.num_examples, metrics


def client_fn(context: Context) -> Client:
    """The client that answers one message."""
    return FedReenactClient(context).to_client()


app = ClientApp(client_fn=client_fn)
