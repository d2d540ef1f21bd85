from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from flwr.app import Array, Error, Message
from flwr.common.constant import ErrorCode

from federation.reported import reported_scalars
from federation.settings import Settings
from server.updates.reply import RejectedUpdateError, failure_reason
from server.updates.update import read_update
from tests.server.replies import reply_with
from tests.support.packed import packed

EXPECTED = {"generator.a": np.zeros((2, 3), np.float32), "discriminator.b": np.zeros(4, np.float32)}
NAMES = reported_scalars(Settings())


def valid_arrays() -> list[np.ndarray]:
    return [np.ones((2, 3), np.float32), np.arange(4, dtype=np.float32)]


def update(arrays: list[np.ndarray], num_examples: int = 5, metrics: Mapping[str, object] | None = None) -> Message:
    return reply_with([packed(arrays)], num_examples, metrics)


def rejection(reply: Message) -> str:
    with pytest.raises(RejectedUpdateError) as caught:
        read_update(reply, EXPECTED, NAMES)
    return str(caught.value)


def kind(reply: Message) -> str:
    with pytest.raises(RejectedUpdateError) as caught:
        read_update(reply, EXPECTED, NAMES)
    return caught.value.kind.value


def test_every_rejection_has_a_kind_that_can_be_counted() -> None:
    nan = [np.full((2, 3), np.nan, np.float32), valid_arrays()[1]]
    assert kind(update(nan)) == "not-finite"
    assert kind(update(valid_arrays(), 5, {"loss_generator": float("inf")})) == "not-finite"
    assert kind(update([np.ones((1, 3), np.float32), valid_arrays()[1]])) == "mismatch"
    assert kind(reply_with([np.full(10, np.nan, np.float64)])) == "mismatch"  # it is not read
    assert kind(update([np.full((2, 3), 2e6, np.float32), valid_arrays()[1]])) == "not-finite"
    assert kind(reply_with([np.full(10, "text")])) == "mismatch"
    assert kind(reply_with([])) == "mismatch"
    assert kind(update(valid_arrays(), 0)) == "unreadable"


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "<class 'X'>:<'disk full'>", "failed"),
        (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "<class 'X'>:<'NonFiniteLossError: step 3'>", "loss-not-finite"),
        (ErrorCode.NODE_UNAVAILABLE, "Node Unavailable", "lost"),
        (ErrorCode.MESSAGE_UNAVAILABLE, "Message Unavailable", "lost"),
    ],
)
def test_failures_are_told_from_losses(code: int, reason: str, expected: str) -> None:
    reply = update(valid_arrays())
    assert kind(Message(Error(code=code, reason=reason), reply_to=reply)) == expected


def test_a_valid_reply_gives_named_tensors_examples_and_numeric_metrics() -> None:
    read = read_update(
        update(valid_arrays(), 36, {"loss_generator": 2.5, "num_steps": 10, "note": "text"}), EXPECTED, NAMES
    )
    assert list(read.tensors) == list(EXPECTED)
    assert read.tensors["discriminator.b"].tolist() == [0, 1, 2, 3]
    assert read.num_examples == 36
    assert read.metrics == {"loss_generator": 2.5, "num_steps": 10.0}
    assert read.num_dropped == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_its_tensor(bad: float) -> None:
    arrays = valid_arrays()
    arrays[1][2] = bad
    assert "discriminator.b has 1 of 4 values that are not finite" in rejection(update(arrays))


def test_a_wrong_length_is_named_with_both_lengths() -> None:
    arrays = [np.ones((1, 3), np.float32), valid_arrays()[1]]
    assert "the update has shape (7,), expected (10,)" in rejection(update(arrays))


def test_a_wrong_dtype_is_named() -> None:
    assert "the update has dtype float64, expected float32" in rejection(reply_with([np.ones(10)]))


@pytest.mark.parametrize("number", [0, 2])
def test_another_number_of_arrays_is_told(number: int) -> None:
    """As of a site that sends every tensor on its own."""
    assert f"sent {number} arrays, expected 1" in rejection(reply_with(valid_arrays()[:number]))


@pytest.mark.parametrize("num_examples", [0, -3])
def test_examples_must_be_positive(num_examples: int) -> None:
    assert f"reports {num_examples} training frames" in rejection(update(valid_arrays(), num_examples))


def test_bytes_that_are_no_array_are_rejected() -> None:
    reply = update(valid_arrays())
    reply.content.array_records["fitres.parameters"]["0"] = Array("float32", (10,), "numpy.ndarray", b"garbage")
    assert "cannot be read" in rejection(reply)


def test_a_reply_without_arrays_is_rejected() -> None:
    reply = update(valid_arrays())
    del reply.content["fitres.parameters"]
    assert "cannot be read" in rejection(reply)


def test_a_missing_generator_loss_is_rejected() -> None:
    assert "sent no loss_generator" in rejection(update(valid_arrays(), metrics={"l1_image": 1.0}))


def test_a_metric_that_is_not_finite_is_rejected() -> None:
    reply = update(valid_arrays(), metrics={"loss_generator": float("nan")})
    assert "metric loss_generator is nan" in rejection(reply)


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("<class 'model.errors.DataError'>:<'no frames\nat all'>", "no frames at all"),
        (
            "<class 'flwr.clientapp.client_app.ClientAppException'>:"
            "<'\nException ClientAppException occurred. Message: boom'>",
            "boom",
        ),
        ("Node Unavailable", "Node Unavailable"),
        ("", "failed with code 2 and no reason"),
        ("x" * 1000, "x" * 400 + " ..."),
    ],
)
def test_a_failure_is_told_in_one_short_line(reason: str, line: str) -> None:
    assert failure_reason(Error(code=2, reason=reason)) == line


def test_what_a_site_says_does_not_rewrite_the_terminal() -> None:
    """Title, colour and screen by C0 and C1 (escape, bell, CSI), and a line that overwrites itself; letters stay."""
    reason = "\x1b]0;owned\x07 \x1b[2J\x9b31m Größe\r0 \x00\x7fok 名"
    line = failure_reason(Error(code=2, reason=reason))
    assert line == "]0;owned [2J 31m Größe 0 ok 名"
