"""The answer that a site owes to the message it works on, kept in its state folder until it is sent."""

from __future__ import annotations

import logging
from pathlib import Path

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from model.files import write_bytes

_log = logging.getLogger(__name__)

_TRIES = 20
"""To send an answer or, in its place, the error: about a minute. A SuperLink that takes neither has its reason."""
LOST = "this site was restarted, or lost the message or the process that worked on it, before it had an answer"


class OwedReply:
    """An error that a site sends in place of an answer which it can no longer make.

    Flower keeps messages in memory: one that a killed SuperNode worked on is gone, and its server would wait for the
    answer until the round's timeout.
    """

    def __init__(self, folder: Path) -> None:
        """The file need not be there."""
        self._path = folder / "owed-reply.pb"
        self._reply: Message | None = None
        """As in the file, once it was written or read; it is kept too where the disk is full."""
        self._num_failed = 0
        self._has_just_failed = False

    def owe(self, message: Message) -> None:
        """Note that a message was received; one at a time. A full disk is logged, and stops nothing."""
        self._reply = Message(Error(ErrorCode.CLIENT_APP_CRASHED, LOST), reply_to=message)
        try:
            write_bytes(self._path, message_to_proto(self._reply).SerializeToString(), is_private=True)
        except OSError as error:
            _log.error("%s: %s; after a crash the server would wait for this site", self._path, error.strerror)

    def settle(self) -> None:
        """Note that it was answered."""
        self._path.unlink(missing_ok=True)
        self._reply = None
        self._num_failed = 0

    def put_off(self) -> None:
        """Note that the answer, or the error in its place, could not be sent; after many times it is given up."""
        self._num_failed += 1
        self._has_just_failed = True
        if self._num_failed >= _TRIES:
            _log.error("no answer could be sent in %d attempts; the server waits for this site in vain", _TRIES)
            self.settle()

    def takes_a_pause(self) -> bool:
        """Whether the last attempt failed, and nobody has asked since."""
        has_failed, self._has_just_failed = self._has_just_failed, False
        return has_failed

    def due(self, node_id: int) -> Message | None:
        """The error to send, if an answer is owed by the node; a file that cannot be read is logged and dropped."""
        if self._reply is None:
            self._reply = self._left_by(node_id)
        return self._reply

    def _left_by(self, node_id: int) -> Message | None:
        """What a process before this one owed, if it was the same node."""
        try:
            reply: Message = message_from_proto(ProtoMessage.FromString(self._path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, DecodeError, ValueError, TypeError) as error:
            _log.error("%s cannot be read (%s)", self._path, type(error).__name__)
            self.settle()
            return None
        if reply.metadata.src_node_id != node_id:  # without a key a site is another node after every start
            self.settle()
            return None
        return reply
