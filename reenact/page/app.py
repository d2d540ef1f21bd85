"""The routes of the page: small files, JSON, results; everything of a browser's is in its session."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException, WebSocketException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from data_partition.pages import templates_of
from data_partition.sources.pictures import PICTURE_SUFFIXES
from data_partition.sources.video import VIDEO_SUFFIXES
from model.errors import ConfigError, FedreenactError
from model.files import json_of
from reenact.marks.in_words import NO_MARK, marks_in_words
from reenact.movement import MAX_STRENGTH
from reenact.page.consent import allow
from reenact.page.desk import Desk, Job, plain_problem
from reenact.page.guard import Guard
from reenact.page.live import IN_FLIGHT, talk
from reenact.page.looks import look_at_file, preview_in_json, report_in_json
from reenact.page.orders import order_of
from reenact.page.sessions import KEPT_MINUTES, MAX_FILE_BYTES, MAX_FILES, Session, Sessions
from reenact.request import ReenactRequest
from reenact.studio import Look, Studio

_STATIC = Path(__file__).parent / "static"
_MAX_JSON_BYTES = 64 << 10
_SWEEP_EVERY_S = 30.0
_PICTURES_AND_CLIPS = ",".join(sorted(PICTURE_SUFFIXES | VIDEO_SUFFIXES)) + ",image/*,video/*"


class Page:
    """One checkpoint's page."""

    def __init__(
        self,
        checkpoint: Path,
        studio: Studio,
        desk: Desk,
        root: Path,
        *,
        cookie: str,
        token: str,
        is_secure: bool,
        consent: Path | None = None,
    ) -> None:
        """Serve nothing yet.

        Args:
            checkpoint: what draws, for requests.
            studio: which loaded it; the desk's `progress` is its progress.
            desk: does what takes long.
            root: folder for what browsers give and get.
            cookie: name of the session's.
            token: what a new browser has to show; "" for nothing.
            is_secure: whether the page is reached by https.
            consent: dataset whose people may be drawn, by their records and faces.
        """
        self._checkpoint, self._studio, self._desk, self._root = checkpoint, studio, desk, root
        self._cookie, self._token, self._is_secure = cookie, token, is_secure
        self._consent = consent
        self._sessions = Sessions(root)
        self._templates = templates_of(__package__)
        self._looking = asyncio.Semaphore(1)

    def app(self, names: frozenset[str]) -> Starlette:
        """For a server that is asked for under these names."""
        return Starlette(
            routes=self._routes(),
            middleware=[Middleware(Guard, names=names)],
            exception_handlers={
                FedreenactError: self._problem,
                OSError: self._problem,
                ClientDisconnect: _refused_to_nobody,
                HTTPException: _refused,
                Exception: _broken,
            },
            lifespan=self._life,
        )

    def _routes(self) -> list[BaseRoute]:
        return [
            Route("/", self.index),
            Route("/page.css", _static("page.css")),
            Route("/page.js", _static("page.js")),
            Route("/files", self.add_file, methods=["POST"]),
            Route("/files/{number}", self.drop_file, methods=["DELETE"]),
            Route("/jobs", self.add_job, methods=["POST"]),
            Route("/jobs/{number}", self.show_job, methods=["GET"]),
            Route("/jobs/{number}", self.cancel_job, methods=["DELETE"]),
            Route("/jobs/{number}/preview", self.show_preview),
            Route("/jobs/{number}/result", self.show_result),
            Route("/marks", self.check_marks, methods=["POST"]),
            Route("/session", self.show_session, methods=["GET"]),
            Route("/session", self.end_session, methods=["DELETE"]),
            WebSocketRoute("/live", self.live),
        ]

    @contextlib.asynccontextmanager
    async def _life(self, _app: Starlette) -> AsyncIterator[None]:
        """Delete what nobody asks for any more, and everything at the end."""
        sweeping = asyncio.create_task(self._keep_sweeping())
        try:
            yield
        finally:
            sweeping.cancel()
            await run_in_threadpool(self._desk.close)
            shutil.rmtree(self._root, ignore_errors=True)

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            self.sweep()

    def sweep(self) -> None:
        """Delete what is of browsers that have gone."""
        for session in self._sessions.forgotten():
            self._desk.end(session, self._studio.forget)

    async def index(self, request: Request) -> Response:
        """The page; a new browser gets a session, if it has the token."""
        secret = request.cookies.get(self._cookie, "")
        is_new = self._sessions.get(secret) is None
        given = request.query_params.get("token", "")
        if is_new and not secrets.compare_digest(given.encode(), self._token.encode()):
            return self._entrance(is_wrong=bool(given))
        response = self._rendered("page.html.j2", self._shown())
        if is_new:
            secret = self._sessions.start()
            response.set_cookie(self._cookie, secret, secure=self._is_secure, httponly=True, samesite="strict")
        return response

    def _entrance(self, *, is_wrong: bool) -> Response:
        return self._rendered("entrance.html.j2", {"is_wrong": is_wrong}, 403)

    def _shown(self) -> dict[str, Any]:
        return {
            "model": self._checkpoint.resolve().name,
            "result_px": self._studio.result_px,
            "has_strengths": self._studio.has_strengths,
            "regions": ("pose", "mouth", "eyes", "brows"),
            "max_strength": MAX_STRENGTH,
            "accepted": _PICTURES_AND_CLIPS,
            "max_mib": MAX_FILE_BYTES >> 20,
            "max_files": MAX_FILES,
            "kept_minutes": KEPT_MINUTES,
            "in_flight": IN_FLIGHT,
            "has_known": self._consent is not None,
        }

    def _rendered(self, name: str, values: dict[str, Any], status: int = 200) -> HTMLResponse:
        return HTMLResponse(self._templates.get_template(name).render(values), status)

    async def add_file(self, request: Request) -> Response:
        """Take an upload, the body, named in the query; say what is seen in it."""
        session = self._session(request)
        number = await session.take(_name_of_upload(request), request.stream())
        path = session.file(number)
        try:
            async with self._looking:
                seen = await run_in_threadpool(look_at_file, path)
        except BaseException:
            session.drop(number)
            raise
        return JSONResponse({"number": number, "name": path.name, **seen})

    async def drop_file(self, request: Request) -> Response:
        """Delete an upload, unless something is being drawn from it."""
        session = self._session(request)
        self._desk.require_free(session)
        session.drop(request.path_params["number"])
        return Response(status_code=204)

    async def add_job(self, request: Request) -> Response:
        """Look at what an order would be made of, or draw it."""
        session = self._session(request)
        order = order_of(await _body(request), session, self._checkpoint)
        self._desk.require_free(session)  # or the record of what is being drawn would be written over
        work, what = (self._look, "a look") if order.only_look else (self._draw, "drawing")
        inputs = (*order.request.sources, order.request.driving)
        allowance = allow(order.declaration, inputs, what, folder=session.folder, known=self._consent)
        wanted = replace(order.request, **allowance.as_arguments())
        job = Job(session, lambda job: work(job, wanted))
        self._desk.take(job)
        return JSONResponse({"number": job.number}, 202)

    def _look(self, job: Job, request: ReenactRequest) -> dict[str, object]:
        job.preview = preview_in_json(self._studio.look(request))
        return {}

    def _draw(self, job: Job, request: ReenactRequest) -> dict[str, object]:
        def show(look: Look) -> None:
            job.preview = preview_in_json(look)

        for other in request.out.parent.glob("*"):
            if other.is_file():
                other.unlink()
        return report_in_json(self._studio.run(request, show))

    async def show_job(self, request: Request) -> Response:
        """Where a job stands."""
        job = self._job(request)
        text, done, total = job.told
        return JSONResponse(
            {
                "state": job.state,
                "before": self._desk.before(job),
                "text": text,
                "done": done,
                "total": total,
                "has_preview": job.preview is not None,
                "outcome": job.outcome,
                "problem": job.problem,
            }
        )

    async def cancel_job(self, request: Request) -> Response:
        """End a job."""
        self._job(request).cancel()
        return Response(status_code=204)

    async def show_preview(self, request: Request) -> Response:
        """What a job works with."""
        return JSONResponse(self._job(request).preview or {})

    async def show_result(self, request: Request) -> Response:
        """The file that was delivered, byte for byte; `?download` saves it."""
        job = self._job(request)
        name = job.outcome.get("name")
        if name is None:
            raise ConfigError("there is no result yet")
        kind = "attachment" if "download" in request.query_params else "inline"
        path = job.session.folder / "result" / str(name)
        return FileResponse(path, filename=path.name, content_disposition_type=kind)

    async def check_marks(self, request: Request) -> Response:
        """What `fedreenact verify` says of an upload, which is deleted then."""
        session = self._session(request)
        number = await session.take(_name_of_upload(request), request.stream())
        try:
            async with self._looking:
                found = await run_in_threadpool(marks_in_words, session.file(number))
        finally:
            session.drop(number)
        lines = [*found.lines] if found.is_marked else [*found.lines, ("In all", NO_MARK)]
        return JSONResponse({"is_marked": found.is_marked, "lines": lines})

    async def show_session(self, request: Request) -> Response:
        """Number of the job that is not done, for a page that was loaded anew; null if there is none."""
        job = self._desk.open_job(self._session(request))
        return JSONResponse({"job": job.number if job is not None else None})

    async def end_session(self, request: Request) -> Response:
        """Delete everything of a browser's; the session itself goes on, empty."""
        session = self._session(request)
        self._desk.end(session, self._studio.forget)
        session.empty()
        return Response(status_code=204)

    async def live(self, websocket: WebSocket) -> None:
        """Draw by a camera's pictures."""
        session = self._sessions.get(websocket.cookies.get(self._cookie, ""))
        if session is None:
            raise WebSocketException(1008, "open the page anew")
        await talk(websocket, session, self._desk, self._studio, self._consent)

    def _session(self, connection: HTTPConnection) -> Session:
        session = self._sessions.get(connection.cookies.get(self._cookie, ""))
        if session is None:
            raise HTTPException(403, "this page is too old; load it again")
        return session

    def _job(self, request: Request) -> Job:
        return self._desk.job(self._session(request), request.path_params["number"])

    async def _problem(self, _request: Request, error: Exception) -> Response:
        return JSONResponse({"problem": plain_problem(str(error), self._root)}, 400)


def _static(name: str) -> Callable[[Request], Response]:
    def file(_request: Request) -> Response:
        return FileResponse(_STATIC / name)

    return file


def _name_of_upload(request: Request) -> str:
    """Refused before the body is read if that would be too long."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_FILE_BYTES:
        raise HTTPException(413, f"more than {MAX_FILE_BYTES >> 20} MiB; make it smaller or shorter")
    return request.query_params.get("name", "")


async def _body(request: Request) -> dict[str, Any]:
    """A JSON object."""
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > _MAX_JSON_BYTES:
            raise HTTPException(413, "too long an order")
    try:
        body = json_of(data)
    except ValueError as error:
        raise HTTPException(400, "not JSON") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "not a JSON object")
    return body


async def _refused_to_nobody(_request: Request, _error: Exception) -> Response:
    """A browser that went in the middle of an upload; what had come of it is deleted."""
    return Response(status_code=400)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"problem": error.detail}, error.status_code)


async def _broken(_request: Request, _error: Exception) -> Response:
    problem = "something went wrong that should not; the terminal of `fedreenact serve` has more"
    return JSONResponse({"problem": problem}, 500)
