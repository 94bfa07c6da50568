"""A directory as archive: the default that needs no AWS, and a rehearsal room with the real protocol.

Objects lie in `DIR/<dataset>-<delivery_id>-<type>/`, control objects in `DIR/<dataset>-<delivery_id>-control/`.
"""

from __future__ import annotations

from .archive import DirectoryArchive
from .control import DirectoryControlBucket
from .pipeline import DirectoryPipeline, run_validator
from .places import LOCAL_LIMITS, LocalPlaces, local_limits
from .validator import Check, DirectoryValidator

__all__ = [
    "LOCAL_LIMITS",
    "Check",
    "DirectoryArchive",
    "DirectoryControlBucket",
    "DirectoryPipeline",
    "DirectoryValidator",
    "LocalPlaces",
    "local_limits",
    "run_validator",
]
