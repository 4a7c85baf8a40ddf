"""The watchdog: reports an event loop that a handler blocks, with its stack, and ends the process (P24).

A blocked process can neither work nor let go; ended, its sessions go to another one, and the event that did it is
found out by its starts without an end (P18).
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""


class Watchdog:
    """`limit`: seconds for which the loop may be blocked."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._beat = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop_thread = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._loop_thread = threading.get_ident()
        self._stop.clear()
        self._tick(asyncio.get_running_loop())
        self._thread = threading.Thread(target=self._watch, name="aos-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._handle is not None:
            self._handle.cancel()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beat = time.monotonic()
        self._handle = loop.call_later(self._limit / 10, self._tick, loop)

    def _watch(self) -> None:
        while not self._stop.wait(self._limit / 10):
            blocked = time.monotonic() - self._beat
            if blocked > self._limit:
                self._report(blocked)
                os._exit(EXIT_CODE)

    def _report(self, blocked: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # pyright: ignore[reportPrivateUsage]
        stack = "".join(traceback.format_stack(frame)) if frame else "(no stack)\n"
        sys.stderr.write(
            f"aos: the event loop has been blocked for {blocked:.0f} s; this process ends. Stack:\n{stack}"
        )
        sys.stderr.flush()
