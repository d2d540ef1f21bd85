"""Where a run stands, in words for a terminal."""

from __future__ import annotations

from evaluation.figures.tables import TextTable
from server.monitoring.run_view import RunView
from server.run_folder.history import RoundRow
from server.run_folder.result import RunState

_NUM_ERRORS = 5


def status_lines(view: RunView, now: float) -> list[str]:
    """The run in a few lines: state, round, losses and Var(L_G), checkpoint, how it ended.

    Args:
        view: of the run.
        now: Unix seconds.
    """
    lines = [f"{view.folder}: {_state_in_words(view, now)}"]
    if view.last is not None:
        lines += _round_lines(view.last)
    if view.checkpoints:
        age = now - view.checkpoints[-1].stat().st_mtime
        lines.append(f"newest checkpoint: {view.checkpoints[-1].name}, {duration(age)} old")
    if view.live is not None:
        lines += [f"{node} does not take part: {reason}" for node, reason in view.live.refused.items()]
        lines += [f"not seen yet: {', '.join(map(str, absent))}"] if (absent := view.never_seen()) else []
    return lines


def _round_lines(row: RoundRow) -> list[str]:
    """The newest round: losses and Var(L_G), what noise has spent, what was measured."""
    variance = row.variance_loss_generator
    lines = [
        f"round {row.round} completed: {', '.join(row.losses_in_words())}, "
        + ("Var(L_G) needs more rounds" if variance is None else f"Var(L_G) {variance:.3g}")
        + f", tau {row.tau:g}, {row.seconds:.0f} s"
    ]
    if "dp_epsilon" in row.metrics:
        epsilon, delta = row.metrics["dp_epsilon"], row.metrics["dp_delta"]
        lines.append(f"privacy spent: epsilon {epsilon:.3g}, delta {delta:g} of one site (one person)")
    if row.evaluation:
        values = ", ".join(f"{name} {value:.4g}" for name, value in row.evaluation.items())
        lines.append(f"central evaluation: {values}")
    return lines


def sites_table(view: RunView, now: float) -> TextTable:
    """One row a site: connection, rounds accepted, loss, time, update, times left out."""
    rows = tuple(_site_row(view, site, now) for site in view.sites())
    header = ("site", "contact", "rounds", "L_G", "seconds", "update norm", "cosine to mean", "left out")
    return TextTable(title="Sites", header=header, rows=rows)


def _site_row(view: RunView, site: int, now: float) -> tuple[str, ...]:
    last = view.newest(site)
    metrics = last.clients[site] if last else {}
    measured = last.measured.get(site, {}) if last else {}
    return (
        str(site),
        _contact(view, site, now),
        str(view.num_rounds(site)),
        _number(metrics.get("loss_generator"), ".3f"),
        _number(metrics.get("seconds"), ".0f"),
        _number(measured.get("update_norm"), ".3g"),
        _number(measured.get("cosine_to_mean"), ".2f"),
        ", ".join(f"{kind} {count}" for kind, count in view.rejections(site).items()) or "-",
    )


def last_errors(view: RunView) -> list[str]:
    """The newest reasons for leaving a site out, the newest last."""
    errors = [
        f"round {row.round}, site {site}: {reason}" for row in view.history for site, reason in row.rejected.items()
    ]
    return errors[-_NUM_ERRORS:]


def duration(seconds: float) -> str:
    """A time span with one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _state_in_words(view: RunView, now: float) -> str:
    state = view.state(now)
    if view.result is not None:
        return f"{state}: {view.result.reason}"
    if view.live is None:
        return "waiting for the server app"
    if state is RunState.LOST:
        return f"lost: the server app has not written for {duration(now - view.live.time)} (was {view.live.phase})"
    what = "waiting for sites" if state is RunState.WAITING else f"training round {view.live.round}"
    what += f", attempt {view.live.attempt}" if view.live.attempt > 1 else ""
    of_all = f" of {view.live.num_sites}" if view.live.num_sites else ""
    sites = f"{len(view.live.connected)}{of_all} sites connected"
    words = f"{what} for {duration(now - view.live.phase_since)}, {sites}"
    return f"{words}; {view.live.trouble}" if view.live.trouble else words


def _contact(view: RunView, site: int, now: float) -> str:
    if view.live is None or site not in view.live.last_contact:
        return "-"
    if site in (view.connected(now) or []):
        return "connected"
    return f"{duration(now - view.live.last_contact[site])} ago"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
