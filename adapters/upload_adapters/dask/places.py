"""Which cluster is meant, and what of the source and the archive travels to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import distributed

from upload_core.errors import ConfigurationError, SourceError
from upload_core.ports import Source
from upload_core.text import printable, quoted

LOCAL: Final = "dask"
SCHEMES: Final = {"dask": "tcp", "dask+tls": "tls"}
LOCAL_THREADS: Final = 2
"""Tasks at a time on a worker of a cluster that we start: while one ends the next has begun."""
SAMPLE: Final = 5
"""Files of the source that every worker has to see."""
SAMPLE_FOLDERS: Final = 20
"""Folders looked into for them."""


def address_of(dispatch: str) -> str | None:
    """The scheduler's address that `--dispatch` names, None for a cluster of this machine's own.

    Raises `ConfigurationError` for anything else.

    >>> address_of("dask://scheduler:8786")
    'tcp://scheduler:8786'
    """
    if dispatch == LOCAL:
        return None
    scheme, separator, rest = dispatch.partition("://")
    host, colon, port = rest.rpartition(":")
    if scheme not in SCHEMES or not separator or not host or not colon or not port.isdigit():
        raise ConfigurationError(
            f"{quoted(dispatch, 200)} names no cluster; write dask://HOST:PORT, dask+tls://HOST:PORT, "
            "or dask for one on this machine"
        )
    return f"{SCHEMES[scheme]}://{rest}"


def local_cluster(n_workers: int | None) -> distributed.LocalCluster:
    """A cluster of processes on this machine, as many as it has cores unless told; raises `ConfigurationError`."""
    try:
        return distributed.LocalCluster(
            n_workers=n_workers or max(1, os.cpu_count() or 1),
            threads_per_worker=LOCAL_THREADS,
            processes=True,
            dashboard_address="127.0.0.1:0",  # its own port is that of a cluster which may run here already
        )
    except (OSError, RuntimeError, TimeoutError) as error:
        raise ConfigurationError(
            f"no Dask cluster can be started here: {printable(str(error), 300)}; a program that starts one must be a file "
            'with `if __name__ == "__main__":`'
        ) from error


def portable(thing: Any) -> tuple[Any, Callable[[], Any] | None]:
    """What travels to a worker in place of this source or archive, and what says its keys, if it needs any."""
    make = getattr(thing, "portable", None)
    if make is None:
        return thing, None
    recipe, keys = make()
    return recipe, keys


def sample_of(source: Source) -> Iterator[tuple[str, int]]:
    """A few of the source's files, by the first names on each level: what a worker that sees another place lacks."""
    pending, found, looked = [""], 0, 0
    while pending and found < SAMPLE and looked < SAMPLE_FOLDERS:
        looked += 1
        prefix = pending.pop()
        try:
            names = source.ls(prefix)
        except SourceError:
            continue
        for name in names[: 4 * SAMPLE]:
            relpath = f"{prefix}/{name}" if prefix else name
            try:
                yield relpath, source.size(relpath)
            except SourceError:
                pending.append(relpath)
                continue
            if (found := found + 1) >= SAMPLE:
                return
