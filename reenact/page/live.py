"""Live mode: JPEG pictures of a camera in over a WebSocket, marked pictures out, each for one."""

from __future__ import annotations

import asyncio
import io
import queue
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.websockets import WebSocket, WebSocketDisconnect

from data_partition.shards.images import encode_image
from model.errors import DataError, FedreenactError
from model.files import json_of
from model.frames import Frame
from reenact.live import LiveDrawing, LiveRequest
from reenact.page.consent import allow
from reenact.page.desk import Desk, Job
from reenact.page.orders import live_order_of
from reenact.page.sessions import Session
from reenact.studio import Studio

IN_FLIGHT = 2
"""Pictures that a browser sends before the first of them is answered: one is drawn while the next one travels."""
MAX_FRAME_BYTES = 1 << 20
_MAX_SIDE_PX = 1920
_IDLE_S = 15
"""Without a picture, until the place is given to others."""
_TURN_S = 600
"""Until it is given to others who wait."""
_TELL_EVERY_S = 0.5

Answer = bytes | dict[str, Any]


async def talk(websocket: WebSocket, session: Session, desk: Desk, studio: Studio, known: Path | None) -> None:
    """Serve one browser's camera, from its first message, the order, until it goes; `known` as of `allow`.

    Pictures are answered in order, each by a picture or by `{"face": false}`; `"rest"` measures movement from the next
    face on. Between them the browser is told where its order stands.
    """
    await websocket.accept()
    first = await websocket.receive()
    if first["type"] != "websocket.receive":
        return
    try:
        order = live_order_of(_json(first.get("text") or ""), session)
        desk.require_free(session)
        sources, folder = order.request.sources, session.folder
        allowance = allow(order.declaration, sources, "live drawing", folder=folder, known=known)
        request = replace(order.request, **allowance.as_arguments())
        conversation = _Conversation(websocket, studio, desk, request)
        job = Job(session, conversation.draw_all)
        desk.take(job)
    except (FedreenactError, OSError) as error:
        await websocket.send_json({"problem": str(error)})
        await websocket.close()
        return
    await conversation.run(job)


class _Conversation:
    """What travels between a browser and the thread that draws."""

    def __init__(self, websocket: WebSocket, studio: Studio, desk: Desk, request: LiveRequest) -> None:
        self._websocket, self._studio, self._desk, self._request = websocket, studio, desk, request
        self._loop = asyncio.get_running_loop()
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()
        self._inputs: queue.Queue[bytes | str] = queue.Queue(maxsize=2 * IN_FLIGHT)

    async def run(self, job: Job) -> None:
        """Until the browser or the job ends."""
        listening = asyncio.create_task(self._listen(job))
        try:
            while job.is_open:
                await self._tell(job)
            await self._websocket.send_json({"problem": job.problem or job.outcome.get("why", "")})
            await self._websocket.close()
        except (WebSocketDisconnect, RuntimeError):  # it is gone already
            pass
        finally:
            job.cancel()
            listening.cancel()

    async def _tell(self, job: Job) -> None:
        """The next answer, or else where the job stands."""
        try:
            answer = await asyncio.wait_for(self._answers.get(), _TELL_EVERY_S)
        except TimeoutError:
            text, done, total = job.told
            answer = {"state": job.state, "before": self._desk.before(job), "text": text, "done": done, "total": total}
        if isinstance(answer, bytes):
            await self._websocket.send_bytes(answer)
        elif job.is_open:
            await self._websocket.send_json(answer)

    async def _listen(self, job: Job) -> None:
        """Take what comes; a browser that sends more than was agreed is left."""
        try:
            while (message := await self._websocket.receive())["type"] == "websocket.receive":
                job.session.touch()
                self._inputs.put_nowait(message.get("bytes") or message.get("text") or "")
        except (queue.Full, RuntimeError):
            pass
        job.cancel()

    def draw_all(self, job: Job) -> dict[str, object]:
        """The work of the job, in the desk's thread."""
        with self._studio.live(self._request) as drawing:
            self._say({"state": "ready"})
            begin_s = last_s = time.monotonic()
            while time.monotonic() - last_s < _IDLE_S:
                job.check()
                if last_s - begin_s > _TURN_S and self._desk.is_waited_for():
                    return {"why": "others are waiting: it is their turn; start again to wait for yours"}
                if (given := self._next()) is not None:
                    last_s = time.monotonic()
                    self._answer(drawing, given, last_s - begin_s)
        return {"why": "the camera sent nothing for a while; start again"}

    def _next(self) -> bytes | str | None:
        try:
            return self._inputs.get(timeout=_TELL_EVERY_S)
        except queue.Empty:
            return None

    def _answer(self, drawing: LiveDrawing, given: bytes | str, time_s: float) -> None:
        if isinstance(given, str):
            drawing.rest()
            return
        result_HWC = drawing.draw(_decoded(given), time_s)
        self._say({"face": False} if result_HWC is None else encode_image(".jpg", result_HWC, jpeg_quality=90))

    def _say(self, answer: Answer) -> None:
        put: Callable[[Answer], None] = self._answers.put_nowait
        self._loop.call_soon_threadsafe(put, answer)


def _json(text: str) -> dict[str, Any]:
    try:
        body = json_of(text)
    except ValueError as error:
        raise DataError("the page sent what is no order; load it again") from error
    return body if isinstance(body, dict) else {}


def _decoded(data: bytes) -> Frame:
    """[H, W, 3] uint8 RGB of a camera's JPEG."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if max(image.size) <= _MAX_SIDE_PX:
                return np.array(image.convert("RGB"), np.uint8)
    except Exception as error:  # decoders raise whatever damaged data makes them raise
        raise DataError(f"a picture of the camera cannot be read ({type(error).__name__}); start again") from error
    raise DataError(f"a picture of the camera is larger than {_MAX_SIDE_PX} pixels; choose another camera")
