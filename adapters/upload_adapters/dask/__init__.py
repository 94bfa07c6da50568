"""Transfers on the workers of a Dask cluster, through the same port as transfers on threads.

Orders travel in batches, one task each; outcomes come back as results, progress of large files as it happens. Nothing
here touches the journal: one writer, many hands.
"""

from __future__ import annotations

from .dispatcher import DaskDispatcher
from .places import address_of

__all__ = ["DaskDispatcher", "address_of"]
