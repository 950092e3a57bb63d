"""A dashboard with Ray's jobs API over real HTTP, whose connections, responses and jobs fail as a test wants.

The real one is tested in tests/integration/test_submit.py; this one serves what no real one does on demand.
"""

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from aiohttp import WSMsgType, web

SESSION = "session_1"


@dataclass(kw_only=True)
class Job:
    """A job that the dashboard knows."""

    status: str = "RUNNING"
    log: str = ""
    driver_exit_code: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    message: str = ""


@dataclass(kw_only=True)
class Dashboard:
    """What the server serves, and what it has received."""

    address: str = ""
    version: str = ray.__version__
    jobs: dict[str, Job] = field(default_factory=dict)
    submissions: list[dict[str, Any]] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    tails: int = 0
    """Connections to logs so far."""
    drops: list[int] = field(default_factory=list)
    """Characters after which each of the next connections to a log is cut."""
    lost_responses: int = 0
    """How many of the next submissions are carried out, and then the connection is closed instead of a response."""
    refusal: tuple[int, str] | None = None
    """Status and text of every response, instead of what was asked for."""
    hangs_s: float = 0.0
    """Seconds before each response."""
    is_cut: bool = False
    """Whether every connection is closed at once."""
    starts_jobs: bool = True
    next_jobs: list[Job] = field(default_factory=list)
    """What becomes of the next submissions."""
    is_log_lost: bool = False
    """Whether a log cannot be read in one request."""

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": self.version, "session_name": SESSION})

    async def _submit(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.submissions.append(body)
        job_id = body["submission_id"]
        if job_id in self.jobs:
            return web.Response(status=500, text=f"ValueError: Job with submission_id {job_id} already exists.")
        if self.starts_jobs:
            self.jobs[job_id] = self.next_jobs.pop(0) if self.next_jobs else Job()
            self.jobs[job_id].metadata = body["metadata"]
        if self.lost_responses:
            self.lost_responses -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"job_id": job_id, "submission_id": job_id})

    async def _info(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return web.Response(status=404, text=f"Job {request.match_info['id']} does not exist")
        facts = {"status": job.status, "driver_exit_code": job.driver_exit_code, "metadata": job.metadata}
        return web.json_response({"type": "SUBMISSION", "entrypoint": "", "message": job.message, **facts})

    async def _stop(self, request: web.Request) -> web.Response:
        self.stopped.append(request.match_info["id"])
        return web.json_response({"stopped": True})

    async def _package(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["name"] in self.uploads else 404)

    async def _upload(self, request: web.Request) -> web.Response:
        self.uploads[request.match_info["name"]] = await request.read()
        return web.Response()

    async def _log(self, request: web.Request) -> web.Response:
        if self.is_log_lost:
            return web.Response(status=500, text="the agent of the node is gone")
        return web.json_response({"logs": self.jobs[request.match_info["id"]].log})

    async def _tail(self, request: web.Request) -> web.WebSocketResponse:
        job = self.jobs[request.match_info["id"]]
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.tails += 1
        drop, sent = self.drops.pop(0) if self.drops else None, 0
        while True:
            end = len(job.log) if drop is None else min(drop, len(job.log))
            for at in range(sent, end, 7):
                await socket.send_str(job.log[at : min(at + 7, end)])
            sent = max(sent, end)
            if drop is not None and sent >= drop:
                assert request.transport is not None
                await asyncio.sleep(0.02)
                request.transport.abort()
                return socket
            if job.status not in {"RUNNING", "PENDING"} and sent == len(job.log):
                return socket
            with contextlib.suppress(TimeoutError):
                message = await socket.receive(timeout=0.02)
                if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
                    return socket

    @web.middleware
    async def _faulty(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.is_cut:
            assert request.transport is not None
            request.transport.abort()
        await asyncio.sleep(self.hangs_s)
        if self.refusal:
            return web.Response(status=self.refusal[0], text=self.refusal[1])
        response: web.StreamResponse = await handler(request)
        return response


@contextlib.contextmanager
def dashboard(tls: ssl.SSLContext | None = None) -> Iterator[Dashboard]:
    """Serve a dashboard on 127.0.0.1 for the length of a block, behind TLS if a certificate is given."""
    served = Dashboard()
    ready = threading.Event()
    loop, done = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with _server(served, tls):
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield served
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(30)
        loop.close()


@contextlib.asynccontextmanager
async def _server(served: Dashboard, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
    app = web.Application(middlewares=[served._faulty], client_max_size=1 << 29)
    app.router.add_get("/api/version", served._version)
    app.router.add_post("/api/jobs/", served._submit)
    app.router.add_get("/api/jobs/{id}", served._info)
    app.router.add_post("/api/jobs/{id}/stop", served._stop)
    app.router.add_get("/api/jobs/{id}/logs", served._log)
    app.router.add_get("/api/jobs/{id}/logs/tail", served._tail)
    app.router.add_get("/api/packages/gcs/{name}", served._package)
    app.router.add_put("/api/packages/gcs/{name}", served._upload)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    served.address = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield
    finally:
        await runner.cleanup()


def announcement(event: str, **facts: object) -> str:
    """Return the line of a log by which a job talks to its client."""
    return " ".join(["fsf-submit", f"event={event}", *(f"{name}={value}" for name, value in facts.items())]) + "\n"


def result(document: dict[str, Any]) -> str:
    """Return the line of a log with a command's result."""
    return f"fsf-submit event=result {json.dumps(document)}\n"
