"""The log of a job, followed over connections that drop: every character once, in order.

The dashboard sends a log from its beginning on every connection; what was received before is skipped.
"""

import asyncio
import queue
import threading

import aiohttp

from fsf_core.errors import FSFError
from fsf_core.submit.jobs_client import JobsClient

HEARTBEAT_S = 20.0
"""Interval of pings: a connection that a router has forgotten is noticed, however quiet the job is."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
POLL_S = 0.1
LAST_ATTEMPTS = 3
"""Connections without a new character after the job has ended; then the rest of the log is given up."""


class LogStream:
    """Reads a log in a thread, from `start` to `close`."""

    def __init__(self, client: JobsClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._seen = 0
        self._closing = threading.Event()
        self.job_has_ended = threading.Event()
        """To be set by the owner."""
        self.chunks: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        """Pieces of the log; None at its end."""
        self.problem: str | None = None
        """Why the log could not be read to its end."""

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Stop reading; the thread ends soon afterwards."""
        self._closing.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._until_closed())
        finally:
            self.chunks.put(None)

    async def _until_closed(self) -> None:
        reading = asyncio.create_task(self._follow())
        while not self._closing.is_set() and not reading.done():
            await asyncio.wait([reading], timeout=POLL_S)
        if not reading.done():
            reading.cancel()
            await asyncio.wait([reading], timeout=1.0)
        elif not reading.cancelled():
            reading.result()

    async def _follow(self) -> None:
        pause_s, attempts = FIRST_PAUSE_S, 0
        while True:
            has_ended, seen, problem = self.job_has_ended.is_set(), self._seen, None
            try:
                is_whole = await self._read()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                is_whole, problem = False, str(error) or type(error).__name__
            if (is_whole and (has_ended or await self._has_ended())) or (has_ended and await self._rest()):
                return
            attempts = 0 if self._seen > seen or not has_ended else attempts + 1
            pause_s = FIRST_PAUSE_S if self._seen > seen else min(2 * pause_s, LONGEST_PAUSE_S)
            if attempts == LAST_ATTEMPTS:
                self.problem = problem or "the connection is closed before its end"
                return
            await self._sleep(pause_s)

    async def _read(self) -> bool:
        """Read the log over one connection; returns whether the other side closed it in order."""
        timeout = aiohttp.ClientTimeout(total=None, connect=10.0)
        url = f"{self._client.get_address()}/api/jobs/{self._job_id}/logs/tail"
        position = 0
        async with (
            aiohttp.ClientSession(headers=self._client.headers, trust_env=True, timeout=timeout) as session,
            session.ws_connect(url, heartbeat=HEARTBEAT_S, ssl=self._client.ssl_context, max_msg_size=0) as socket,
        ):
            while True:
                message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return socket.close_code == aiohttp.WSCloseCode.OK
                if fresh := message.data[max(0, self._seen - position) :]:
                    self.chunks.put(fresh)
                position += len(message.data)
                self._seen = max(self._seen, position)

    async def _rest(self) -> bool:
        """Read the rest of the log of a job that has ended in one request; returns whether it could be read."""
        try:
            log = await asyncio.to_thread(self._client.get_job_logs, self._job_id)
        except FSFError:
            return False
        if fresh := log[self._seen :]:
            self.chunks.put(fresh)
        return len(log) >= self._seen

    async def _has_ended(self) -> bool:
        """Return whether the job has ended, as far as can be learnt."""
        try:
            details = await asyncio.to_thread(self._client.get_job_info, self._job_id)
        except FSFError:
            return False
        return bool(details.status.is_terminal())

    async def _sleep(self, seconds: float) -> None:
        """Sleep, at most until the job has ended."""
        has_ended = self.job_has_ended.is_set()
        for _ in range(int(seconds / POLL_S)):
            if self.job_has_ended.is_set() and not has_ended:
                return
            await asyncio.sleep(POLL_S)
