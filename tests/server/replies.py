"""Fit replies as Flower delivers them from a NumPyClient."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from server.rounds.messaging import fit_message

Answer = Callable[[list[np.ndarray], dict[str, object]], tuple[list[np.ndarray], int, dict[str, object]]]


class AnsweringClient(NumPyClient):
    """Answers `fit` with a function."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def fit(
        self, parameters: list[np.ndarray], config: dict[str, object]
    ) -> tuple[list[np.ndarray], int, dict[str, object]]:
        return self._answer(parameters, config)


def answering_app(answer: Callable[[Context], Answer]) -> ClientApp:
    """A ClientApp whose clients answer with `answer(context)`."""
    return ClientApp(lambda context: AnsweringClient(answer(context)).to_client())


def reply_with(arrays: list[np.ndarray], num_examples: int = 5, metrics: Mapping[str, object] | None = None) -> Message:
    """The reply of a NumPyClient that answers with these values."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    values = dict(metrics) if metrics is not None else {"loss_generator": 2.5}
    app = answering_app(lambda context: lambda parameters, config: (arrays, num_examples, values))
    message = fit_message(7, ArrayRecord(), {"phase": "train", "server-round": 1}, timeout_s=60.0)
    return app(message, Context(1, 7, {}, RecordDict(), {}))
