"""What threads and forked processes share: a lock, and the refusal of what cannot work in a forked process.

Polars computes in threads of its own, which a forked process lacks: it would wait for them forever.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType
from typing import Any

_locks: weakref.WeakSet[Lock] = weakref.WeakSet()
_reader: int | None = None
"""Process in which tables were first read or changed, if any was."""


class Lock:
    """A re-entrant lock that is free again in a forked process, and in a copy of what holds it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return Lock, ()


def _free_locks() -> None:
    for lock in list(_locks):
        lock._lock = threading.RLock()  # whoever held it is no thread of this process


os.register_at_fork(after_in_child=_free_locks)


def check_tables_work(what: str) -> None:
    """Raise RuntimeError in a process that was forked after its parent read tables; `what` is about to do so.

    >>> check_tables_work("items.add")
    """
    global _reader
    if _reader is None:
        _reader = os.getpid()
    if _reader != os.getpid():
        raise RuntimeError(
            f"{what} in process {os.getpid()}, forked from {_reader} after items were read there: Polars, which reads "
            "them, works only in the process that began with it.\nStart processes with the method 'spawn' or "
            "'forkserver' (multiprocessing.get_context), or call it before forking."
        )
