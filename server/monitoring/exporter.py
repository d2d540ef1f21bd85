"""Prometheus metrics of a run, read from its folder at every scrape.

The exporter is a process of its own, so the last round stays visible after training has ended, and killing it or the
server app loses nothing: counters are sums over the run's history.
"""

from __future__ import annotations

import logging
import operator
import platform
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cryptography import x509
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from model.checkpoint import round_number_of
from model.designs.registry import DESIGNS
from model.errors import CheckpointError, ConfigError
from server.monitoring.refusals import RefusalCounter
from server.monitoring.run_view import RunView, newest_run
from server.run_folder.history import RANKING, RoundRow
from server.run_folder.result import RunState
from server.updates.reply import Rejection

_log = logging.getLogger(__name__)

_TERMS = tuple(dict.fromkeys(term.name for design in DESIGNS.values() for term in design.terms))
_RANKING_HELP = "Share of places where a discriminator puts what is real above what was drawn; 0.5 is chance."
_CLIENTS, _MEASURED = operator.attrgetter("clients"), operator.attrgetter("measured")
_SITE_GAUGES = {
    "examples": (_CLIENTS, "num_examples", "Training frames of the site: its weight in the average."),
    "training_seconds": (_CLIENTS, "seconds", "Seconds of local training in the last round the site took part in."),
    "peak_memory_bytes": (_CLIENTS, "peak_memory_bytes", "Peak resident memory of the site's training process."),
    "gpu_peak_memory_bytes": (_CLIENTS, "gpu_peak_memory_bytes", "Peak GPU memory of the site's training."),
    "gpu_utilisation_ratio": (_CLIENTS, "gpu_utilisation", "GPU utilisation at the end of local training, 0 to 1."),
    "update_norm": (_MEASURED, "update_norm", "Euclidean length of the site's last update."),
    "update_cosine": (_MEASURED, "cosine_to_mean", "Cosine of the site's last update to the mean update, -1 to 1."),
    "refused_tasks": (_CLIENTS, "refused_tasks", "Tasks other than ours that the site refused to run."),
}
_SITE_COUNTERS = {
    "sent_bytes": (_MEASURED, "bytes_up", "Bytes of tensors that the site sent and that were accepted."),
    "received_bytes": (_MEASURED, "bytes_down", "Bytes of tensors that the site was sent in accepted rounds."),
    "cpu_seconds": (_CLIENTS, "cpu_seconds", "CPU seconds of the site's accepted local training."),
}
_EVALUATION = {
    "l1_ratio": ("l1", "Mean absolute error as a fraction of the range; lower is better."),
    "psnr_decibels": ("psnr_db", "Peak signal-to-noise ratio; higher is better."),
    "ssim_ratio": ("ssim", "Structural similarity; higher is better."),
}


class RunCollector(Collector):
    """Metrics `fedreenact_...` of the newest run below a folder."""

    def __init__(self, root: Path, superlink_log: Path | None, certificates: Mapping[str, Path] | None = None) -> None:
        """Nothing is read yet.

        Args:
            root: a run folder or a folder of run folders.
            superlink_log: log file of the SuperLink, or None.
            certificates: name to file (PEM) of each certificate whose end is told.
        """
        self._root = root
        self._certificates = certificates or {}
        self._refusals = RefusalCounter(superlink_log) if superlink_log is not None else None
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """All metrics of this moment."""
        with self._lock:  # scrapes come in threads of their own
            yield _build_info()
            yield from self._host()
            yield _certificates(self._certificates)
            folder = newest_run(self._root)
            yield _gauge("run_begun", "1 if there is a run.", folder is not None)
            if folder is None:
                return
            try:
                view = RunView.read(folder)
            except (CheckpointError, ConfigError, ValueError, OSError) as error:
                _log.warning("%s cannot be read now: %s", folder, error)
                view = None
            yield _gauge("run_readable", "1 if the files of the newest run can be read.", view is not None)
            if view is None:
                return
            yield from _run(view)
            yield from _sites(view)

    def _host(self) -> Iterator[Metric]:
        usage = shutil.disk_usage(self._root)
        yield _gauge("runs_disk_free_bytes", "Free space where runs are kept.", usage.free)
        yield _gauge("runs_disk_size_bytes", "Size of the disk where runs are kept.", usage.total)
        if self._refusals is not None:
            self._refusals.update()
            family = CounterMetricFamily(
                "fedreenact_refused_connections", "Connections that the SuperLink refused.", labels=["reason"]
            )
            for reason, count in self._refusals.counts.items():
                family.add_metric([reason], count)
            yield family


def certificate_files(options: Iterable[str]) -> dict[str, Path]:
    """Name to file of options NAME=FILE.

    Raises:
        ConfigError: if an option has another form, or its file holds no certificate.
    """
    files = {}
    for option in options:
        name, _, file = option.partition("=")
        if not re.fullmatch("[a-z][a-z0-9-]{0,31}", name) or not file:
            raise ConfigError(f"--certificate: got {option!r}, wanted NAME=FILE, such as server=/certs/server.pem")
        try:
            _expiry(Path(file))
        except (OSError, ValueError) as error:
            raise ConfigError(f"--certificate: {file} holds no certificate in PEM form ({error})") from error
        files[name] = Path(file)
    return files


def serve(root: Path, *, port: int, superlink_log: Path | None, certificates: Mapping[str, Path] | None = None) -> None:
    """Answer scrapes at /metrics until the process is told to end.

    Raises:
        ConfigError: if the folder does not exist or the port cannot be had.
    """
    if not root.is_dir():
        raise ConfigError(f"{root} is not a folder; wanted a run folder or a folder of runs")
    registry = CollectorRegistry()
    registry.register(RunCollector(root, superlink_log, certificates))
    try:
        _, thread = start_http_server(port, registry=registry)
    except OSError as error:
        raise ConfigError(f"--port: {port} cannot be used ({error.strerror}); choose another") from error
    thread.join()


def _certificates(files: Mapping[str, Path]) -> Metric:
    """When certificates end; read at every scrape, because they are renewed in place."""
    family = GaugeMetricFamily(
        "fedreenact_certificate_expires_timestamp_seconds", "When a certificate ends.", labels=["certificate"]
    )
    for name, file in files.items():
        try:
            family.add_metric([name], _expiry(file))
        except (OSError, ValueError) as error:
            _log.warning("%s cannot be read now: %s", file, error)
    return family


def _expiry(file: Path) -> float:
    """End (Unix time) of the first certificate of a file, which of a chain is the one that is shown to peers."""
    return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()


def _run(view: RunView) -> Iterator[Metric]:
    now = time.time()
    info = InfoMetricFamily("fedreenact_run", "The run that is shown.")
    info.add_metric([], {"run": view.folder.name, "run_id": view.run_id})
    yield info
    state = GaugeMetricFamily("fedreenact_run_state", "1 for the state that the run is in.", labels=["state"])
    for each in RunState:
        state.add_metric([each.value], float(each is view.state(now)))
    yield state
    yield _gauge("round", "Rounds completed.", view.last.round if view.last else 0)
    if view.live is not None:
        yield _gauge("server_heard_timestamp_seconds", "When the server app last wrote.", view.live.time)
        yield _gauge("phase_start_timestamp_seconds", "When the present phase began.", view.live.phase_since)
        if (connected := view.connected(now)) is not None:
            yield _gauge("connected_sites", "Sites whose heartbeat the SuperLink has.", len(connected))
        yield _gauge("refused_sites", "Connected nodes that do not take part.", len(view.live.refused))
        yield _gauge("expected_sites", "Sites that are to take part.", view.live.num_sites)
        yield _gauge("round_attempts", "How often the round in progress was begun.", view.live.attempt)
    if view.checkpoints:
        newest = view.checkpoints[-1]
        yield _gauge("checkpoint_round", "Round of the newest checkpoint.", round_number_of(newest))
        yield _gauge("checkpoint_timestamp_seconds", "When it was written.", newest.stat().st_mtime)
    if view.last is not None:
        yield from _round(view.last)
    yield from _evaluation(view)


def _round(row: RoundRow) -> Iterator[Metric]:
    """The last round."""
    yield _gauge("round_duration_seconds", "Duration of the last round.", row.seconds)
    yield _gauge("round_end_timestamp_seconds", "When the last round ended.", row.time)
    losses = {"generator": row.loss_generator, "discriminator": row.loss_discriminator}
    yield _labelled("loss", "Example-weighted mean loss over sites.", "network", losses)
    yield _labelled("discriminator_ranking_ratio", _RANKING_HELP, "judge", row.rankings())
    yield _gauge("stop_threshold", "tau: training stops when the variance falls below it.", row.tau)
    if row.variance_loss_generator is not None:
        yield _gauge("generator_loss_variance", "Var(L_G) over the last rounds.", row.variance_loss_generator)
    if "dp_epsilon" in row.metrics:
        yield _gauge("privacy_epsilon", "Differential privacy spent of one site.", row.metrics["dp_epsilon"])
    if row.rounds_until_stop_possible is not None:
        yield _gauge("stop_possible_in_rounds", "Rounds before a stop is possible.", row.rounds_until_stop_possible)
    for name, help_text in (("cpu_seconds", "CPU seconds"), ("peak_memory_bytes", "Peak resident memory")):
        if name in row.server:
            yield _gauge(f"server_{name}", f"{help_text} of the server app.", row.server[name])


def _evaluation(view: RunView) -> Iterator[Metric]:
    """The newest central evaluation."""
    measured = next((row.evaluation for row in reversed(view.history) if row.evaluation), None)
    if measured is None:
        return
    for name, (key, help_text) in _EVALUATION.items():
        family = GaugeMetricFamily(f"fedreenact_evaluation_{name}", help_text, labels=["picture"])
        family.add_metric(["model"], measured[key])
        family.add_metric(["copy_source"], measured[f"copy_source_{key}"])
        yield family


def _sites(view: RunView) -> Iterator[Metric]:
    """Per site; gauges are of the last round in which the site was accepted."""
    newest = {site: view.newest(site) for site in view.sites()}
    for name, (part_of, key, help_text) in _SITE_GAUGES.items():
        values = {site: part_of(row).get(site, {}).get(key) for site, row in newest.items() if row is not None}
        yield _per_site(GaugeMetricFamily(f"fedreenact_site_{name}", help_text, labels=["site"]), values)
    for name, (part_of, key, help_text) in _SITE_COUNTERS.items():
        totals = {site: sum(part_of(row).get(site, {}).get(key, 0.0) for row in view.history) for site in newest}
        yield _per_site(CounterMetricFamily(f"fedreenact_site_{name}", help_text, labels=["site"]), totals)
    rounds = CounterMetricFamily(
        "fedreenact_site_rounds", "Rounds in which the site's update was accepted.", labels=["site"]
    )
    yield _per_site(rounds, {site: float(view.num_rounds(site)) for site in newest})
    yield from _site_losses(newest)
    yield from _contacts(view)
    yield from _left_out(view)


def _left_out(view: RunView) -> Iterator[Metric]:
    """Who is in quarantine, and how often each site was left out for which kind of reason."""
    kinds = view.last.rejected_kinds if view.last else {}
    quarantined = GaugeMetricFamily(
        "fedreenact_site_quarantined", "1 if the site was in quarantine in the last round.", labels=["site"]
    )
    yield _per_site(quarantined, {site: float(kinds.get(site) == Rejection.QUARANTINED) for site in view.sites()})
    rejections = CounterMetricFamily(
        "fedreenact_rejections", "Rounds in which a site was left out, by reason.", labels=["site", "reason"]
    )
    for site in view.sites():
        counts = view.rejections(site)
        for kind in Rejection:
            rejections.add_metric([str(site), kind.value], counts.get(kind.value, 0))
    yield rejections


def _site_losses(newest: Mapping[int, RoundRow | None]) -> Iterator[Metric]:
    losses = GaugeMetricFamily("fedreenact_site_loss", "Loss of the site's last round.", labels=["site", "network"])
    terms = GaugeMetricFamily("fedreenact_site_loss_term", "Unweighted term of its losses.", labels=["site", "term"])
    ranking = GaugeMetricFamily("fedreenact_site_discriminator_ranking_ratio", _RANKING_HELP, labels=["site", "judge"])
    for site, row in newest.items():
        metrics = row.clients[site] if row else {}
        for family, prefix, names in (
            (losses, "loss_", ("generator", "discriminator")),
            (terms, "", _TERMS),
            (ranking, RANKING, ("image", "landmarks")),
        ):
            for name in names:
                if prefix + name in metrics:
                    family.add_metric([str(site), name], metrics[prefix + name])
    yield from (losses, terms, ranking)


def _contacts(view: RunView) -> Iterator[Metric]:
    if view.live is None:
        return
    contact = dict(view.live.last_contact)
    yield _per_site(
        GaugeMetricFamily("fedreenact_site_contact_timestamp_seconds", "Last heartbeat seen.", labels=["site"]), contact
    )
    now_connected = view.connected(time.time())
    if now_connected is None:
        return
    connected = {site: float(site in now_connected) for site in sorted({*contact, *view.never_seen()})}
    yield _per_site(GaugeMetricFamily("fedreenact_site_connected", "1 if connected now.", labels=["site"]), connected)


def _per_site(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[int, float | None]
) -> GaugeMetricFamily | CounterMetricFamily:
    for site, value in values.items():
        if value is not None:
            family.add_metric([str(site)], value)
    return family


def _labelled(name: str, help_text: str, label: str, values: Mapping[str, float | None]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"fedreenact_{name}", help_text, labels=[label])
    for of, value in values.items():
        if value is not None:
            family.add_metric([of], value)
    return family


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"fedreenact_{name}", help_text, value=float(value))


def _build_info() -> InfoMetricFamily:
    info = InfoMetricFamily("fedreenact_build", "Versions of what runs here.")
    versions = {name: _version(name) for name in ("fedreenact", "flwr", "torch")}
    info.add_metric([], versions | {"python": platform.python_version()})
    return info


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
