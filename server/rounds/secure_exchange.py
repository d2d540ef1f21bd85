"""One secure sum over Flower's messages: keys, shares, masked vectors, consistency, unmasking (Bonawitz et al. 2017).

A site that fails, is late or sends something of another form in one exchange is left out of the rest; the sum is over
the sites whose masked vectors arrived. The protocol itself is in federation/secure_sum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord

from federation.secure_sum.masking import Phase
from federation.secure_sum.primitives import SecureSumError, Vector
from federation.secure_sum.session import SumName
from federation.secure_sum.unmasking import ServerSum, WrongSharesError
from model.errors import FederationError
from model.setting import Scalar
from server.rounds.exchange import Exchange, Link, Reasons
from server.updates.reply import RejectedUpdateError, Rejection, read_fit_reply, size_in_bytes

Arrays = list[npt.NDArray[Any]]
Given = Callable[[Iterable[int]], Mapping[int, ArrayRecord]]
"""Partition ids to the arrays that each of them is given to work on."""

_MIN_ACCUSERS = 2
"""Sites that must report another one before it is left out: one alone may be the one that lies."""


class DisturbedSumError(FederationError):
    """The sum cannot be had with these sites; it begins anew, with fresh keys, without them."""

    def __init__(self, reasons: Reasons) -> None:
        super().__init__("; ".join(reason for reason, _ in reasons.values()))
        self.reasons = reasons


class LostSumError(FederationError):
    """The sum cannot be had any more under its round number: sites may unmask it once."""

    def __init__(self, reason: str, reasons: Reasons | None = None) -> None:
        super().__init__(reason)
        self.reasons = reasons or {}


@dataclass(kw_only=True, slots=True)
class Exchanged:
    """What is known of the sites besides the sum; filled while it goes on."""

    rejected: Reasons
    """Sites that failed, were late or sent what cannot be used."""
    clients: dict[int, dict[str, float]] = field(default_factory=dict)
    """What survivors measured of their own machines."""
    measured: dict[int, dict[str, float]]
    """Bytes of each site's tensors in both directions."""


class SecureExchange:
    """One sum of one vector from each site."""

    def __init__(
        self,
        link: Link,
        nodes: Mapping[int, int],
        name: SumName,
        scalars: Mapping[str, Scalar],
        *,
        zero: Vector,
        min_sites: int,
        told: Collection[str],
    ) -> None:
        """Nothing is sent yet.

        Args:
            link: to the sites.
            nodes: partition id to node id of the sites that are asked.
            name: of the sum.
            scalars: that all messages have besides.
            zero: a vector of zeros, of the form that all vectors have.
            min_sites: `min-fit-clients`.
            told: names of the numbers that sites report.
        """
        self._exchange = Exchange(link, name.round_number)
        self.seen = Exchanged(
            rejected=self._exchange.rejected, measured={site: {"bytes_up": 0, "bytes_down": 0} for site in nodes}
        )
        self._nodes = nodes
        self._scalars = {**scalars, **name.to_flat()}
        self._min_sites = min_sites
        self._told = told
        self._num_parts = len(zero)
        self._sum = ServerSum(str(name), zero)

    @property
    def survivors(self) -> list[int]:
        """Sites in the sum, ascending."""
        return self._sum.survivors

    def total(self, phase: Phase, given: Given) -> Vector:
        """The sum over the survivors.

        Args:
            phase: what the sites do in the third exchange.
            given: what they are given for it.

        Raises:
            DisturbedSumError: if sites send keys or shares that others cannot use.
            LostSumError: if the sum stays masked for good.
            FederationError: if too few sites take part.
        """
        self._exchange_keys()
        self._exchange_shares()
        self._collect_masked(phase, given)
        self._agree()
        self._collect_revealed()
        try:
            return self._sum.unmask()
        except WrongSharesError as error:
            raise LostSumError(str(error), {error.site: (str(error), Rejection.UNREADABLE)}) from error
        except SecureSumError as error:
            raise LostSumError(str(error)) from error

    def _exchange_keys(self) -> None:
        for site, arrays, _ in self._asked(Phase.KEYS, dict.fromkeys(self._nodes, _record([]))):
            self._take(site, arrays, 2, self._sum.take_keys)
        self._require(self._sum.advertisers, "sent keys")

    def _exchange_shares(self) -> None:
        sites = self._sum.advertisers
        record = _record([np.array(sites, np.int64), self._sum.keys_S2B(), self._sum.signatures_SB()])
        refused: dict[int, set[int]] = {}
        for site, arrays, _ in self._asked(Phase.SHARES, dict.fromkeys(sites, record)):
            if len(arrays) == 1:
                refused[site] = _ids(arrays[0], sites)
                reason = f"does not accept the public keys of sites {sorted(refused[site])}"
                self.seen.rejected[site] = reason, Rejection.FAILED
            else:
                self._take(site, arrays, 2, self._sum.take_shares)
        accused = {site: [other for other, named in refused.items() if site in named] for site in sites}
        self._leave_out({s: by for s, by in accused.items() if len(by) >= _MIN_ACCUSERS}, "do not accept its keys")
        self._require(self._sum.sharers, "sent shares")

    def _collect_masked(self, phase: Phase, given: Given) -> None:
        sites = np.array(self._sum.sharers, np.int64)
        records = {}
        for site, record in given(self._sum.sharers).items():
            shares = {"secure-sites": Array(sites), "secure-shares": Array(self._sum.sealed_for(site))}
            records[site] = ArrayRecord({**record, **shares})
        for site, arrays, metrics in self._asked(phase, records):
            if self._take(site, arrays, self._num_parts + 1, self._sum.take_masked):
                self.seen.clients[site] = metrics
        self._require(self._sum.survivors, "sent a masked vector")
        if unopened := self._sum.unopened_by():
            worst = {site: by for site, by in unopened.items() if len(by) >= _MIN_ACCUSERS}
            self._leave_out(worst, "cannot open its shares")
            lonely = {accuser for by in unopened.values() for accuser in by}
            self._leave_out({accuser: [] for accuser in lonely}, "reports shares that the others could open")

    def _agree(self) -> None:
        sites = self._sum.survivors
        record = _record([np.array(sites, np.int64)])
        for site, arrays, _ in self._asked(Phase.AGREE, dict.fromkeys(sites, record)):
            self._take(site, arrays, 1, self._sum.take_agreed)
        self._require(self._sum.signers, "signed the list of survivors", self._sum.threshold)

    def _collect_revealed(self) -> None:
        record = _record([np.array(self._sum.signers, np.int64), self._sum.agreed_SB()])
        for site, arrays, _ in self._asked(Phase.UNMASK, dict.fromkeys(self._sum.signers, record)):
            self._take(site, arrays, 1, self._sum.take_revealed)

    def _asked(
        self, phase: Phase, records: Mapping[int, ArrayRecord]
    ) -> Iterator[tuple[int, Arrays, dict[str, float]]]:
        """Site, arrays and metrics of every readable reply; the other sites are rejected."""
        messages = self._exchange.messages(self._nodes, records, {**self._scalars, "phase": phase.value})
        for site, reply in self._exchange.answers(self._exchange.replies(messages), to=phase.value):
            self.seen.measured[site]["bytes_down"] += size_in_bytes(records[site])
            try:
                arrays, _, metrics = read_fit_reply(reply, None, self._told)
            except RejectedUpdateError as error:
                self.seen.rejected[site] = str(error), error.kind
                continue
            self.seen.measured[site]["bytes_up"] += size_in_bytes(reply.content.array_records["fitres.parameters"])
            yield site, arrays, metrics

    def _take(self, site: int, arrays: Arrays, num_arrays: int, take: Callable[..., None]) -> bool:
        """Hand a reply's arrays on; a site whose arrays have another form is rejected."""
        try:
            if len(arrays) != num_arrays:
                raise SecureSumError(f"sent {len(arrays)} arrays, expected {num_arrays}")
            take(site, *arrays)
        except SecureSumError as error:
            self.seen.rejected[site] = str(error), Rejection.MISMATCH
            return False
        return True

    def _leave_out(self, accused: Mapping[int, list[int]], what: str) -> None:
        """Begin anew without the accused, if there are any."""
        if accused:
            reasons = {site: f"{f'sites {sorted(by)} ' if by else ''}{what}" for site, by in sorted(accused.items())}
            raise DisturbedSumError({site: (reason, Rejection.UNREADABLE) for site, reason in reasons.items()})

    def _require(self, sites: list[int], what: str, wanted: int | None = None) -> None:
        wanted = max(self._min_sites, self._sum.threshold) if wanted is None else wanted
        if len(sites) >= wanted:
            return
        spent = [site for site, (reason, _) in self.seen.rejected.items() if reason.startswith("SpentSumError")]
        if len(spent) >= _MIN_ACCUSERS:
            reasons = self._exchange.reasons_in_words()
            raise LostSumError(f"sites {sorted(spent)} helped to unmask it over other sites ({reasons})")
        found = f"{len(sites)} sites {what}, min-fit-clients is {self._min_sites} and the secure sum needs "
        raise FederationError(self._exchange.too_few(found + f"{self._sum.threshold}", "mend the clients"))

    def log_rejected(self) -> None:
        """One line for each site that is left out."""
        self._exchange.log_rejected()


def _ids(array: npt.NDArray[Any], known: list[int]) -> set[int]:
    """Those of the known ids that a site names."""
    is_list = isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype == np.int64
    return {int(site) for site in array[: len(known)]} & set(known) if is_list else set()


def _record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({str(index): Array(array) for index, array in enumerate(arrays)})
