"""What a test may turn: limits, lifetimes and the server's clock."""

import time

import attrs

# S3 refuses a request whose time differs more than this from its own.
REQUEST_SKEW_MAX_S = 900.0


@attrs.define
class Settings:
    """Figures of the emulated services; the defaults are those that AWS documents, except where noted."""

    region: str = "us-east-1"
    account: str = "000000000000"
    skew_s: float = 0.0
    """How far the server's clock is ahead of the machine's."""
    check_request_time: bool = True
    """Refuse requests signed more than 15 minutes away from the server's clock."""
    accept_any_key: bool = True
    """Not AWS: long-term access keys nobody issued are accepted. Temporary ones must have been issued."""
    parts_max: int = 10_000
    """How many parts an object may have, appends included."""
    part_size_min: int = 5 * 1024 * 1024
    """The least size of every part but the last."""
    list_page_max: int = 1_000
    session_lifetime_s: float = 300.0
    """How long the credentials of a directory bucket's session live."""
    credentials_lifetime_s: float = 3_600.0
    """How long the credentials of an identity pool or role live."""

    batch_object_max: int = 5 * 1024**3
    """The largest object that a job copies."""
    batch_threshold_tasks: int = 1_000
    """From so many tasks on a job of which more than half failed ends."""
    batch_report_rows: int = 100_000
    """Not documented: rows in one file of a report."""
    batch_status_first: bool = True
    """Whether a report names the HTTP status before the error code, as the examples do, or after it, as its schema says."""

    def now(self) -> float:
        """The server's time, in seconds since the epoch."""
        return time.time() + self.skew_s
