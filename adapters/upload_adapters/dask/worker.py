"""What a cluster calls on its workers: the task, and what the client says. Each client has a `Post` on each worker."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from typing import Any

from upload_core.ports import Source
from upload_core.release import __version__

from .messages import Answer, Batch, BatchDone
from .post import Post, source_problem

_posts: dict[tuple[str, str], Post] = {}
_lives: dict[tuple[str, str], str] = {}
_over: set[tuple[str, str]] = set()
"""Clients that have ended: a task of theirs that comes late begins nothing."""
_mutex = threading.Lock()


# --- what the cluster calls ------------------------------------------------------------------------


def run_batch(batch: Batch) -> BatchDone:
    """The task: carry out these orders. Never raises: each of them is answered."""
    from distributed import get_worker

    return _post(get_worker(), batch.token, batch.delivery).run(batch)


def hear(answer: Answer, dask_worker: Any = None) -> None:
    """Take in what the client says; called in the worker's event loop, so it only puts it down."""
    with _mutex:
        post = _posts.get((dask_worker.address, answer.token))
    if post is not None:
        post.hear(answer)


def release() -> str:
    """Which release of this package runs here."""
    return __version__


def begin(token: str, delivery: str, dask_worker: Any = None) -> None:
    """A new life of this delivery has begun: end what earlier ones left here."""
    with _mutex:
        _lives[dask_worker.address, delivery] = token
        old = [
            post
            for (worker, other), post in _posts.items()
            if worker == dask_worker.address and post.delivery == delivery and other != token
        ]
    for post in old:
        post.end(0.0)


def end(token: str, grace_s: float, dask_worker: Any = None) -> None:
    """Let what runs for this client finish for so long, then cut it."""
    with _mutex:
        _over.add((dask_worker.address, token))
        post = _posts.get((dask_worker.address, token))
    if post is not None:
        post.end(grace_s)


def look_at_source(pickled: bytes, sample: Sequence[tuple[str, int]]) -> str | None:
    """The same of a source that is still packed; called on all workers."""
    return source_problem(lambda: _unpacked(pickled), sample)


def _unpacked(pickled: bytes) -> Source:
    source: Source = pickle.loads(pickled)  # noqa: S301 - from the client, whose code runs here anyway
    return source


def _post(worker: Any, token: str, delivery: str) -> Post:
    key = (worker.address, token)
    with _mutex:
        post = _posts.get(key)
        if post is None or post.ended:
            post = _posts[key] = Post(worker, token, delivery, _forget)
            if _lives.setdefault((worker.address, delivery), token) != token or key in _over:
                post.refuse()
        return post


def _forget(post: Post) -> None:
    with _mutex:
        if _posts.get((post.address, post.token)) is post:
            del _posts[post.address, post.token]
