"""Flower's connection from a site to the SuperLink, which says why it is refused and waits where waiting helps."""

from __future__ import annotations

import email.utils
import logging
import os
import signal
import time
from typing import Any

import httpx
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE
from flwr.proto.fleet_pb2 import ActivateNodeRequest, ActivateNodeResponse
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supernode import fleet_http_connection
from flwr.supernode.fleet_http_client import FleetHttpClient

from federation.heartbeat import errors_that_pass

_log = logging.getLogger(__name__)

MAX_AHEAD_S, MAX_BEHIND_S = SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE
"""How far a site's clock may be from the SuperLink's: Flower refuses what was signed beyond."""
_WORTH_A_WORD_S = 2.0
_DATE_RESOLUTION_S = 1.0
_HEARTBEAT_LAPSES_S = 90.0
"""After which the SuperLink has forgotten a SuperNode that was killed: two heartbeats of 30 s, and some."""
_BETWEEN_TRIES_S = 15.0


class SiteFleetClient(FleetHttpClient):  # type: ignore[misc]
    """Flower's client of the Fleet API.

    Flower ends a SuperNode that is answered 401 as if it had been asked to end, without a word why; the clock of the
    site is the usual reason. One that was killed is not let in again until its last heartbeat has lapsed, and ends. And
    its heartbeats end for good, without a word either, at most errors of the SuperLink.
    """

    was_refused = False
    """Whether any answer was 401, or an error while the clock was wrong; of the class, since a process has one
    connection."""
    _is_clock_off = False

    def ActivateNode(self, request: ActivateNodeRequest) -> ActivateNodeResponse:
        """Connect; again and again while the SuperLink may think that this SuperNode's predecessor lives."""
        deadline = time.monotonic() + _HEARTBEAT_LAPSES_S
        is_told = False
        while True:
            try:
                activated: ActivateNodeResponse = super().ActivateNode(request)
                return activated
            except httpx.HTTPStatusError as error:
                if not _is_refused_activation(error.response) or SiteFleetClient.was_refused:
                    raise
                if time.monotonic() >= deadline:
                    _log.error(
                        "the SuperLink does not let this site in: it does not know the site's key (register it there), "
                        "or another SuperNode with this key is connected"
                    )
                    raise
            if not is_told:
                _log.warning(
                    "the SuperLink does not let this site in yet; after a hard stop it does within %g s",
                    _HEARTBEAT_LAPSES_S,
                )
                is_told = True
            time.sleep(_BETWEEN_TRIES_S)

    def SendNodeHeartbeat(self, request: SendNodeHeartbeatRequest) -> SendNodeHeartbeatResponse:
        """Say that this site lives. An answer that would end Flower's heartbeats alone ends the site, to start anew."""
        try:
            with errors_that_pass():
                response: SendNodeHeartbeatResponse = super().SendNodeHeartbeat(request)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.UNAUTHORIZED:  # with which Flower ends it
                self._end(f"answered with {error.response.status_code}")
            raise
        if not response.success:
            self._end("it does not know this site's connection any more")
        return response

    def _end(self, reason: str) -> None:
        _log.error("the SuperLink refuses this site's heartbeats (%s); it ends, to be started again", reason)
        SiteFleetClient.was_refused = True
        os.kill(os.getpid(), signal.SIGINT)

    def _send(self, context: Any, *, stream: bool = False) -> httpx.Response:
        """Send a request, and look at the clock and the refusal in its answer."""
        sent_at = time.time()
        response: httpx.Response = super()._send(context, stream=stream)
        ahead_s = seconds_ahead(response.headers.get("date", ""), sent_at=sent_at, received_at=time.time())
        self._say_clock(ahead_s)
        # The door answers a site that connects with a wrong clock as Flower answers one that it does not let in.
        is_for_clock = response.is_error and not _is_clock_right(ahead_s)
        if response.status_code == httpx.codes.UNAUTHORIZED or is_for_clock:
            if not SiteFleetClient.was_refused:
                _log.error("the SuperLink refused this site (%d): %s", response.status_code, _why_refused(ahead_s))
            SiteFleetClient.was_refused = True
        return response

    def _say_clock(self, ahead_s: float) -> None:
        """One line when the clock begins to be off."""
        is_off = abs(ahead_s) > _WORTH_A_WORD_S
        if is_off and not self._is_clock_off:
            _log.warning("%s", describe_clock(ahead_s))
        self._is_clock_off = is_off


def seconds_ahead(date: str, *, sent_at: float, received_at: float) -> float:
    """How far this machine's clock is ahead of the one that wrote an HTTP Date, at least; negative: behind.

    Args:
        date: the header, of whole seconds (RFC 9110, 6.6.1).
        sent_at: seconds of the epoch by this machine's clock when the request was sent.
        received_at: the same, when the answer was there.

    Returns:
        0 where the date lies between the two, as it must with equal clocks, or is no date.
    """
    try:
        answered_at = email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return 0.0
    return max(0.0, sent_at - answered_at - _DATE_RESOLUTION_S) + min(0.0, received_at - answered_at)


def describe_clock(ahead_s: float) -> str:
    """What is wrong with the clock, and what to do."""
    side = "ahead of" if ahead_s > 0 else "behind"
    return (
        f"this site's clock is {abs(ahead_s):.0f} s {side} the SuperLink's, which refuses what is more than "
        f"{MAX_AHEAD_S} s ahead or {MAX_BEHIND_S} s behind: set the clock by NTP (timedatectl set-ntp true) here, or "
        "there if that one is wrong"
    )


def _why_refused(ahead_s: float) -> str:
    if _is_clock_right(ahead_s):
        return "the clocks agree; is the site's key registered there, and is it the one of this site?"
    return describe_clock(ahead_s)


def _is_clock_right(ahead_s: float) -> bool:
    return bool(-MAX_BEHIND_S < ahead_s < MAX_AHEAD_S - _DATE_RESOLUTION_S)  # Flower's constants are untyped


def _is_refused_activation(response: httpx.Response) -> bool:
    error = FlowerError.from_json(response.text)
    return error is not None and error.code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED


def use_site_fleet_client() -> None:
    """Have this process's SuperNode connect by `SiteFleetClient`."""
    fleet_http_connection.FleetHttpClient = SiteFleetClient
