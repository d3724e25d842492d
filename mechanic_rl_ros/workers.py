"""Spreading seeds over processes without changing a single result."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

_work: Callable[[int], Any] | None = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute with one thread: networks this small gain nothing from more, and lose much on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def over_seeds(make: Callable[..., Callable[[int], Result]], arguments: tuple[Any, ...], seeds: Sequence[int], workers: int = 1) -> Iterator[Result]:
    """Yields ``make(*arguments)(seed)`` for every seed, in order.

    Every process computes with one thread and builds its own work function once. As long as that function's result depends on the seed alone, the
    number of workers does not matter.

    Args:
        make: Builds the work function; importable, as are the arguments picklable between processes of this run.
        arguments: Of ``make``.
        seeds: What to work on.
        workers: Number of processes; 1 works in this one.
    """
    if workers <= 1:
        with one_thread():
            work = make(*arguments)
            for seed in seeds:
                yield work(seed)
        return
    with _without_interrupts():
        # Spawned, not forked: a fork would inherit locks that torch's threads hold.
        pool = multiprocessing.get_context("spawn").Pool(workers, _start, (make, arguments))
    with pool:
        yield from pool.imap(_call, seeds)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile never hear Ctrl-C, which a terminal sends to all: this one, which hears it afterwards, ends them."""
    resource_tracker.ensure_running()  # its start would lift the block
    heard: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    # The block is inherited by the processes; another thread of this one may still take the signal, and would interrupt the main thread.
    handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number)) if in_main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if in_main:
            signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)


def _start(make: Callable[..., Callable[[int], Any]], arguments: tuple[Any, ...]) -> None:
    global _work
    torch.set_num_threads(1)
    _work = make(*arguments)


def _call(seed: int) -> Any:
    assert _work is not None
    return _work(seed)
