"""The supervisor, with runs in threads in place of Flower's processes."""

from __future__ import annotations

import contextlib
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Error, Message
from flwr.proto.run_pb2 import Run

from federation.settings import Settings
from model.errors import ConfigError, FederationError
from server.flower.commands import FlowerCommands, UnfinishedRun
from server.flower.deployment import Patience, Supervisor
from server.rounds.federation import run_federation
from server.rounds.stopping import MAX_DISCARDED, require_progress
from server.run_folder.folder import RunFolder
from server.run_folder.history import RoundRow, read_history
from server.run_folder.life import running
from server.run_folder.result import RESULT_NAME
from tests.support.federated_setup import minimal_settings, simulated_grid, write_dataset

QUICK = Patience(poll_s=0.05, ask_s=0.05, start_s=0.5, silence_s=30.0, retry_s=0.05, max_attempts=2)
App = Callable[[Settings, int], None]


class ThreadedFlower(FlowerCommands):
    """Runs the server app of attempt 0, 1, ... in a thread."""

    def __init__(
        self, home: Path, app: App, *, never_starts: bool = False, unfinished: UnfinishedRun | None = None
    ) -> None:
        super().__init__(home)
        home.mkdir()
        self._app = app
        self._never_starts = never_starts
        self._unfinished = [unfinished] if unfinished else []
        self._thread: threading.Thread | None = None
        self.num_submitted = 0
        self.stopped: list[str] = []

    def begin(self, settings: Settings) -> None:
        def work() -> None:
            with contextlib.suppress(BaseException):  # a process that dies tells nobody
                self._app(settings, self.num_submitted - 1)

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def submit(self, run_config: Path, federation_config: Mapping[str, int | float] | None = None) -> str:
        self.num_submitted += 1
        if not self._never_starts:
            self.begin(Settings.from_flat(tomllib.loads(run_config.read_text())))
        return str(self.num_submitted)

    def unfinished(self) -> list[UnfinishedRun]:
        return self._unfinished

    def status(self, run_id: str) -> str:
        if self._thread is None:
            return "pending"
        return "running" if self._thread.is_alive() else "finished:failed"

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)

    def log(self, run_id: str) -> str:
        return "first words\nlast words\n"


def train(settings: Settings, attempt: int) -> None:
    run_federation(simulated_grid(settings), settings)


def train_but_die_first(settings: Settings, attempt: int) -> None:
    """The first server app dies without a word in round 2."""

    def die(reply: Message, index: int) -> Message:
        if attempt == 0 and reply.metadata.group_id == "2":
            raise SystemExit
        return reply

    run_federation(simulated_grid(settings, tamper=die), settings)


def lose_a_site(reply: Message, index: int) -> Message:
    if index == 1 and reply.metadata.group_id == "1":
        lost = Message(Error(code=3, reason="gone"), reply_to=reply)
        lost.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
        return lost
    return reply


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return minimal_settings(write_dataset(tmp_path / "sites", 2), tmp_path / "run", 2, local_steps=1, max_rounds=3)


def run_77(folder: Path, submitted: float = 0.0, **settings: int) -> UnfinishedRun:
    return UnfinishedRun(run_id="77", submitted=submitted, settings={"output-dir": str(folder), **settings})


def supervise(settings: Settings, flower: FlowerCommands, patience: Patience = QUICK) -> tuple[str, list[RoundRow]]:
    rows: list[RoundRow] = []
    return Supervisor(settings, flower, rows.append, patience).run(), rows


def test_a_run_is_submitted_and_followed(settings: Settings, tmp_path: Path) -> None:
    flower = ThreadedFlower(tmp_path / "flower", train)
    reason, rows = supervise(settings, flower)
    assert reason == "round 3 is the last that max-rounds allows"
    assert [row.round for row in rows] == [1, 2, 3]
    assert flower.num_submitted == 1


def test_a_server_app_that_dies_is_started_again_and_goes_on(settings: Settings, tmp_path: Path) -> None:
    flower = ThreadedFlower(tmp_path / "flower", train_but_die_first)
    reason, rows = supervise(settings, flower)
    assert reason == "round 3 is the last that max-rounds allows"
    assert flower.num_submitted == 2
    assert [row.round for row in rows] == [1, 2, 3]


def test_a_run_that_has_ended_before_ends_at_once(settings: Settings, tmp_path: Path) -> None:
    supervise(settings, ThreadedFlower(tmp_path / "flower", train))
    reason, rows = supervise(settings, ThreadedFlower(tmp_path / "again", train))
    assert reason == "round 3 is the last that max-rounds allows"
    assert rows == []


def test_a_run_that_has_not_ended_is_taken_over_not_doubled(settings: Settings, tmp_path: Path) -> None:
    flower = ThreadedFlower(tmp_path / "flower", train, unfinished=run_77(tmp_path / "run"))
    flower.begin(settings)
    assert supervise(settings, flower)[0] == "round 3 is the last that max-rounds allows"
    assert flower.num_submitted == 0


def test_a_run_that_was_submitted_with_other_settings_is_stopped_and_goes_on_with_these(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As an operator does who has seen enough: a lower max-rounds, and `up` again."""
    train(settings.replaced({"max-rounds": 1}), 0)
    (tmp_path / "run" / RESULT_NAME).unlink()  # as of a run that goes on

    class Stoppable(ThreadedFlower):
        def stop(self, run_id: str) -> None:
            super().stop(run_id)
            self.begin(settings)
            self._unfinished = []

    def as_if_stopped_or_train(settings: Settings, attempt: int) -> None:
        if attempt >= 0:
            train(settings, attempt)

    before = run_77(tmp_path / "run", **{"max-rounds": 64, "local-steps": settings.rounds.local_steps, "gone": 1})
    flower = Stoppable(tmp_path / "flower", as_if_stopped_or_train, unfinished=before)
    shorter = settings.replaced({"max-rounds": 2})
    reason, rows = supervise(shorter, flower)
    assert reason == "round 2 is the last that max-rounds allows"
    assert [row.round for row in rows] == [2]
    assert (flower.stopped, flower.num_submitted) == (["77"], 1)
    assert "run 77 has other settings and is stopped, to go on with these: max-rounds was 64, now 2" in caplog.text
    assert "local-steps was" not in caplog.text


def test_a_run_of_another_folder_is_named_and_neither_followed_nor_stopped(settings: Settings, tmp_path: Path) -> None:
    flower = ThreadedFlower(tmp_path / "flower", train, unfinished=run_77(tmp_path / "main"))
    with pytest.raises(FederationError, match=r"run 77 of .*/main has not ended; wait for its end, or stop it first"):
        supervise(settings, flower)
    assert (flower.num_submitted, flower.stopped) == (0, [])


def test_a_run_of_something_else_keeps_nobody_waiting(settings: Settings, tmp_path: Path) -> None:
    foreign = UnfinishedRun(run_id="77", submitted=0.0, settings={"max-rounds": 7})
    flower = ThreadedFlower(tmp_path / "flower", train, unfinished=foreign)
    assert supervise(settings, flower)[0] == "round 3 is the last that max-rounds allows"
    assert (flower.num_submitted, flower.stopped) == (1, [])


def test_a_run_that_is_taken_over_has_not_the_result_that_was_there_before_it(
    settings: Settings, tmp_path: Path
) -> None:
    """A result that is newer than the submission is its own: it was about to end when it was taken over."""
    folder = RunFolder.open(settings)[0]
    folder.write_completed("round 2 is the last that max-rounds allows")
    stamp_s = (tmp_path / "run" / RESULT_NAME).stat().st_mtime
    with folder:
        for submitted, is_own in ((stamp_s + 60, False), (stamp_s - 60, True)):
            flower = ThreadedFlower(
                tmp_path / f"flower-{is_own}", train, unfinished=run_77(tmp_path / "run", submitted)
            )
            flower.begin(settings)  # ends at once: the folder is in use
            if is_own:
                assert supervise(settings, flower)[0] == "round 2 is the last that max-rounds allows"
            else:
                with pytest.raises(FederationError, match="run 77 ended as finished:failed without a result"):
                    supervise(settings, flower)
            assert flower.num_submitted == 0


def test_an_unfinished_run_is_read_from_what_the_superlink_says() -> None:
    said = Run(run_id=2**63 + 1, pending_at="2026-11-29T12:00:00.500000+00:00")
    run = UnfinishedRun(run_id=str(2**63 + 1), submitted=1795953600.5, settings={})
    assert UnfinishedRun.of(said) == run and run.output_dir == ""
    said.override_config["output-dir"].string = "/runs/main"
    said.override_config["max-rounds"].sint64 = 21
    assert UnfinishedRun.of(said) == replace(run, settings={"output-dir": "/runs/main", "max-rounds": 21})
    assert UnfinishedRun.of(said).output_dir == "/runs/main"


def test_too_few_sites_are_tried_again_and_then_named(settings: Settings, tmp_path: Path) -> None:
    def short_of_a_site(settings: Settings, attempt: int) -> None:
        run_federation(simulated_grid(settings, tamper=lose_a_site), settings)

    flower = ThreadedFlower(tmp_path / "flower", short_of_a_site)
    with pytest.raises(
        FederationError, match=r"gave up after 2 attempts .*: round 1: 1 valid updates, min-fit-clients is 2"
    ):
        supervise(settings, flower)
    assert flower.num_submitted == 2


def test_an_error_that_nobody_foresaw_is_like_the_death_of_the_server_app(settings: Settings, tmp_path: Path) -> None:
    def fail_first(settings: Settings, attempt: int) -> None:
        def fail(reply: Message, index: int) -> Message:
            if attempt == 0 and reply.metadata.group_id == "2":
                raise ZeroDivisionError("a mistake in the server app")
            return reply

        run_federation(simulated_grid(settings, tamper=fail), settings)

    flower = ThreadedFlower(tmp_path / "flower", fail_first)
    reason, rows = supervise(settings, flower)
    assert reason == "round 3 is the last that max-rounds allows"
    assert flower.num_submitted == 2
    assert [row.round for row in rows] == [1, 2, 3]


def test_what_somebody_has_to_mend_is_not_tried_again(settings: Settings, tmp_path: Path) -> None:
    unbound = settings.replaced({"sites-file": str(tmp_path / "missing.json")})
    flower = ThreadedFlower(tmp_path / "flower", train)
    with pytest.raises(FederationError, match="missing.json cannot be read"):
        supervise(unbound, flower)
    assert flower.num_submitted == 1


def test_a_run_whose_rounds_give_nothing_is_not_tried_again(settings: Settings, tmp_path: Path) -> None:
    def give_nothing(settings: Settings, attempt: int) -> None:
        with running(settings):
            require_progress(MAX_DISCARDED)

    flower = ThreadedFlower(tmp_path / "flower", give_nothing)
    with pytest.raises(FederationError, match="^the last 5 rounds had no usable secure sum"):
        supervise(settings, flower)
    assert flower.num_submitted == 1


def test_settings_that_do_not_fit_the_run_folder_are_refused_at_once(settings: Settings, tmp_path: Path) -> None:
    supervise(settings, ThreadedFlower(tmp_path / "flower", train))
    flower = ThreadedFlower(tmp_path / "again", train)
    with pytest.raises(ConfigError, match="cannot resume with other settings: local-steps was 1, now 5"):
        supervise(settings.replaced({"local-steps": 5}), flower)
    assert flower.num_submitted == 0


@pytest.mark.integration
def test_a_run_that_never_starts_is_stopped_and_named(settings: Settings, tmp_path: Path) -> None:
    flower = ThreadedFlower(tmp_path / "flower", train, never_starts=True)
    with pytest.raises(FederationError, match=r"run 1 is pending after 0.5 s; is the server app's service up\?"):
        supervise(settings, flower)
    assert flower.stopped == ["1", "2"]


@pytest.mark.integration
def test_a_server_app_that_hangs_is_stopped(settings: Settings, tmp_path: Path) -> None:
    never = threading.Event()
    flower = ThreadedFlower(tmp_path / "flower", lambda settings, attempt: never.wait(20) and None)
    with pytest.raises(FederationError, match=r"run 1 is running and silent for 0.5 s; stopped"):
        supervise(settings, flower, replace(QUICK, silence_s=0.5))
    assert flower.stopped == ["1", "2"]
    never.set()
    assert read_history(tmp_path / "run") == []
