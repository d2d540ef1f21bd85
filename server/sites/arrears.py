"""Sites whose answer is overdue: what they owe, whether they are asked again, and whether a round waits for them."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Message
from flwr.serverapp import Grid

from server.rounds.messaging import reply_now
from server.sites.roster import KnownSite
from server.updates.reply import SITES_OWN_ERRORS


def is_own_answer(reply: Message) -> bool:
    """Whether a site said this by itself; other errors tell of nodes or messages that got lost."""
    return not reply.has_error() or reply.error.code in SITES_OWN_ERRORS


class Arrears:
    """Of all sites of a run: one that hangs costs the others one wait of `round-timeout-s`, and not one a round.

    A site that was late is not asked again while it owes its answer: it would work through one message after the other,
    each of a round that is over. When it has answered, it is asked and waited for as ever. When its answer is lost for
    good (Flower drops a message with its time to live), it is asked again, and its answer used if it is there with the
    others'; no round waits for it alone until it has answered. All this while the others are enough for a round.
    """

    def __init__(self) -> None:
        self._owed: dict[int, Message] = {}
        self._unpunctual: dict[int, KnownSite] = {}
        """Sites that were late, and have not answered since, as they said hello."""

    def note_late(self, site: KnownSite, message: Message) -> None:
        """No reply to the message came in time."""
        self._owed[site.partition_id] = message
        self._unpunctual[site.partition_id] = site

    def note_reply(self, site: int, reply: Message) -> None:
        """A reply came, to whatever message."""
        self._owed.pop(site, None)
        if is_own_answer(reply):
            self._unpunctual.pop(site, None)

    def owing(self, grid: Grid, sites: Mapping[int, KnownSite]) -> dict[int, str]:
        """Partition ids that still owe an answer, to the reason; late answers that are there by now are taken.

        Args:
            grid: Flower's.
            sites: by partition id, those that are there; one that left, or said hello again since, has begun anew and
                owes nothing.
        """
        for site, known in list(self._unpunctual.items()):
            if sites.get(site) is not known:
                self._owed.pop(site, None)
                del self._unpunctual[site]
        for site, message in list(self._owed.items()):
            reply = reply_now(grid, message)
            if reply is not None:
                self.note_reply(site, reply)
        return {
            site: f"has not answered the message of round {message.metadata.group_id} yet, and is not asked before"
            for site, message in sorted(self._owed.items())
        }

    def is_waited_for(self, site: int) -> bool:
        """Whether a round waits for the site's answer."""
        return site not in self._unpunctual
