"""The client for code without an event loop: the same methods, blocking."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from .asynchronous import RECONNECT_FOR, Client
from .results import Event, Report

P = ParamSpec("P")
T = TypeVar("T")

READ_AHEAD = 256
"""Events that a stream reads before they are asked for."""


def _blocking(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncClient, P], T]:
    """The method of :class:`Client`, with its signature and its words, that blocks until it has the result."""

    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(method(self._opened, *args, **kwargs))

    return call


class SyncClient:
    """:class:`Client` for code without an event loop::

        with SyncClient.connect() as client:
            execution = client.execute("print('hello')")

    It has a thread with an event loop of its own. Its methods may be called from several threads.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        reconnect_for: float | None = RECONNECT_FOR,
    ) -> None:
        """Say which broker is meant: see :meth:`Client.connect`."""
        self._make = functools.partial(Client, url, token, data_dir, reconnect_for=reconnect_for)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        token: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        reconnect_for: float | None = RECONNECT_FOR,
    ) -> Self:
        """A client, to be entered with ``with``, which connects. See :meth:`Client.connect`."""
        return cls(url, token, data_dir, reconnect_for=reconnect_for)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="broker-client", daemon=True)
        self._thread.start()
        try:
            self._client = self._run(self._open())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and end the thread."""
        if self._loop is not None:
            try:
                self._run(self._opened.close())
                self._run(_cancel_others())
            finally:
                self._stop()

    execute = _blocking(Client.execute)
    wait = _blocking(Client.wait)
    get_execution = _blocking(Client.get_execution)
    list_executions = _blocking(Client.list_executions)
    list_async_executions = _blocking(Client.list_async_executions)
    get_async_log = _blocking(Client.get_async_log)
    get_progress = _blocking(Client.get_progress)
    send_stdin = _blocking(Client.send_stdin)
    interrupt = _blocking(Client.interrupt)
    kill = _blocking(Client.kill)
    clear_history = _blocking(Client.clear_history)
    create_session = _blocking(Client.create_session)
    get_session = _blocking(Client.get_session)
    restart_session = _blocking(Client.restart_session)
    close_session = _blocking(Client.close_session)
    list_sessions = _blocking(Client.list_sessions)
    list_kernelspecs = _blocking(Client.list_kernelspecs)

    def stream(
        self,
        execution_id: str | None = None,
        *,
        session: str | None = None,
        after: int | None = 0,
        follow: bool = False,
    ) -> Iterator[Event]:
        """The events, each once and in order: see :meth:`Client.stream`. Its connection ends with the iterator."""
        return self._iterate(self._opened.stream(execution_id, session=session, after=after, follow=follow))

    def on_report(self, callback: Callable[[Report], object]) -> Callable[[], None]:
        """Call ``callback`` with each report: see :meth:`Client.on_report`.

        It is called in the client's own thread, where it must not call the client.
        """

        client = self._opened

        async def register() -> Callable[[], None]:
            return client.on_report(callback)

        return self._run(register())

    async def _open(self) -> Client:
        return await self._make().__aenter__()

    def _iterate(self, events: AsyncGenerator[Event, None]) -> Iterator[Event]:
        # A hand-over between two threads is dear, so each takes what there is.
        queue: asyncio.Queue[Event | BaseException | None] = asyncio.Queue(READ_AHEAD)

        async def pump() -> None:
            end: BaseException | None = None
            try:
                async for event in events:
                    await queue.put(event)
            except Exception as error:
                end = error
            await queue.put(end)

        async def start() -> asyncio.Task[None]:
            return asyncio.create_task(pump())

        async def take() -> list[Event | BaseException | None]:
            taken = [await queue.get()]
            while not queue.empty():
                taken.append(queue.get_nowait())
            return taken

        async def finish(task: asyncio.Task[None]) -> None:
            task.cancel()
            await asyncio.wait([task])
            await events.aclose()

        task = self._run(start())
        try:
            while True:
                for item in self._run(take()):
                    if item is None:
                        return
                    if isinstance(item, BaseException):
                        raise item
                    yield item
        finally:
            if self._loop is not None:
                self._run(finish(task))

    @property
    def _opened(self) -> Client:
        if self._client is None:
            raise RuntimeError("the client is not open; use `with SyncClient.connect() as client`")
        return self._client

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C here must not leave the call under way there.
            future.cancel()
            raise

    def _stop(self) -> None:
        assert self._loop is not None
        loop, self._loop, self._client = self._loop, None, None
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()


async def _cancel_others() -> None:
    """End what streams left open have running."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
