"""Asking sites, in clear or under a secure sum: who answered, who was late, and who is left out for which reason."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from model.errors import FederationError
from model.setting import Scalar
from server.rounds.messaging import fit_message, replies_to
from server.sites.arrears import Arrears, is_own_answer
from server.sites.roster import Roster
from server.updates.reply import Rejection

_log = logging.getLogger(__name__)

Reasons = dict[int, tuple[str, Rejection]]
"""Partition id of a site that is left out to the reason and its kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """How sites are reached."""

    grid: Grid
    roster: Roster
    """The sites; kept up to date by whoever waits for them."""
    timeout_s: float
    """Longest wait for the replies to one message each, in seconds."""
    on_wait: Callable[[], None]
    """Called about twice a second while replies are waited for."""
    min_sites: int
    """`min-fit-clients`."""
    arrears: Arrears = field(default_factory=Arrears)
    """Of sites that were late."""

    def left_out(self, quarantined: Mapping[int, str]) -> Reasons:
        """Sites that are not asked: those in quarantine and, unless the round needs them, those that owe an answer.

        Args:
            quarantined: partition id to the reason.
        """
        sites = self.roster.by_partition()
        owing = self.arrears.owing(self.grid, sites)
        is_needed = len(sites.keys() - owing.keys() - quarantined.keys()) < self.min_sites
        reasons: Reasons = {} if is_needed else {site: (reason, Rejection.LATE) for site, reason in owing.items()}
        return reasons | {site: (reason, Rejection.QUARANTINED) for site, reason in quarantined.items()}


class TooFewUpdatesError(FederationError):
    """A round in clear has fewer valid updates than min-fit-clients; it may be repeated."""

    def __init__(self, text: str, num_answers: int) -> None:
        super().__init__(text)
        self.num_answers = num_answers
        """Connected sites that answered by themselves, good or bad, or were not asked."""


class Exchange:
    """One round's questions to its sites, and what became of each site.

    `rejected` has the sites that are left out so far; whoever reads an answer adds those whose answer is wrong.
    """

    def __init__(self, link: Link, round_number: int, rejected: Reasons | None = None) -> None:
        """Nobody is asked yet.

        Args:
            link: to the sites.
            round_number: for log and errors.
            rejected: sites that are left out from the start.
        """
        self.rejected: Reasons = dict(rejected or {})
        self.num_answers = 0
        """Answers that sites gave by themselves, good or bad: others tell of nodes or messages that got lost."""
        self._link = link
        self._round_number = round_number
        self._sent: dict[int, Message] = {}
        self._not_awaited: set[int] = set()
        """Sites whose answers are taken if they are there with the others'."""

    def messages(
        self, nodes: Mapping[int, int], records: Mapping[int, ArrayRecord], scalars: Mapping[str, Scalar]
    ) -> list[Message]:
        """One message for each site, ascending by partition id; `answers` expects the replies to these.

        Args:
            nodes: partition id to node id.
            records: partition id of each site that is asked to the arrays for it.
            scalars: that all messages have.
        """
        link, timeout_s = self._link, self._link.timeout_s
        self._sent = {s: fit_message(nodes[s], records[s], scalars, timeout_s=timeout_s) for s in sorted(records)}
        late = {site for site in self._sent if not link.arrears.is_waited_for(site)}
        self._not_awaited = late if len(self._sent) - len(late) >= link.min_sites else set()
        return list(self._sent.values())

    def replies(self, messages: list[Message]) -> Iterator[Message]:
        """Send the messages; their replies one at a time, in the order of the messages."""
        link = self._link
        nodes = [self._sent[site].metadata.dst_node_id for site in self._not_awaited]
        return replies_to(link.grid, messages, timeout_s=link.timeout_s, on_wait=link.on_wait, not_awaited=nodes)

    def answers(self, replies: Iterable[Message], to: str = "") -> Iterator[tuple[int, Message]]:
        """Partition id and reply of each site that answers; in the end the others are left out as late.

        Args:
            replies: to the last `messages`, which have been sent.
            to: what they were asked for, for the reason of those who are late.
        """
        waiting = {message.metadata.message_id: site for site, message in self._sent.items()}
        arrears, sites = self._link.arrears, self._link.roster.by_partition()
        for reply in replies:
            self.num_answers += is_own_answer(reply)
            site = waiting.pop(reply.metadata.reply_to_message_id)
            arrears.note_reply(site, reply)
            yield site, reply
        for late in waiting.values():
            until = "with the others'" if late in self._not_awaited else f"within {self._link.timeout_s:g} s"
            self.rejected[late] = f"no reply {until}" + (f" to {to}" if to else ""), Rejection.LATE
            arrears.note_late(sites[late], self._sent[late])

    def log_rejected(self) -> None:
        """One line for each site that is left out."""
        for site, (reason, _) in sorted(self.rejected.items()):
            where = {"round": self._round_number, "site": site}
            _log.warning("round %d: client %d is left out: %s", self._round_number, site, reason, extra=where)

    def too_few(self, found: str, advice: str) -> str:
        """The words of an error: what was found, why each site is left out, and what to do."""
        reasons = self.reasons_in_words()
        return f"round {self._round_number}: {found}" + (f" ({reasons})" if reasons else "") + f"; {advice}"

    def reasons_in_words(self) -> str:
        """Why each site is left out, ascending by partition id."""
        return "; ".join(f"client {site}: {reason}" for site, (reason, _) in sorted(self.rejected.items()))


def reasons_and_kinds(rejected: Reasons) -> tuple[dict[int, str], dict[int, str]]:
    """Partition id to the reason, and to its kind, ascending."""
    ordered = sorted(rejected.items())
    return {site: reason for site, (reason, _) in ordered}, {site: kind.value for site, (_, kind) in ordered}
