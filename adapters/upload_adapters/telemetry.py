"""A delivery's events as OpenTelemetry metrics and traces; only the API is used, so where the data go is the host's choice.

Names follow OpenTelemetry's conventions: lower case, dots between, the unit beside the name and not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from upload_core import UploadClient
from upload_core import events as ev
from upload_core.errors import ConfigurationError
from upload_core.journal import Record
from upload_core.release import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Span, Tracer

SCOPE: Final = "upload_core"

FILE_STEPS: Final[Mapping[type[ev.Event], str]] = {
    ev.TransferCompleted: "stored",
    ev.FileFoundStored: "stored",
    ev.FileFoundValid: "valid",
    ev.FileValidated: "valid",
    ev.FileInvalidated: "invalid",
    ev.TransferFailed: "failed",
    ev.TransferAbandoned: "abandoned",
    ev.TransferRetried: "retried",
}
"""Kind of event -> the value of `step` in the counter `upload_core.files`."""

MARKS: Final[tuple[type[ev.Event], ...]] = (
    ev.OutageBegan,
    ev.OutageEnded,
    ev.SuspensionNoticed,
    ev.LockLost,
    ev.ValidatorStarted,
    ev.ValidatorStopped,
    ev.ValidatorLost,
    ev.ConcurrencyChanged,
    ev.CopyJobCreated,
    ev.CopyJobEnded,
    ev.TransfersPaused,
    ev.TransfersContinued,
)
"""Events that a session's span shows."""


def instrument(client: UploadClient, *, meter: Meter | None = None, tracer: Tracer | None = None) -> Callable[[], None]:
    """Count the client's files, bytes and outages, and trace its session; returns a function that ends it.

    Without `meter` and `tracer` those of the global providers are used. Raises `ConfigurationError` if OpenTelemetry's
    API is not installed (extra `telemetry`).
    """
    try:
        from opentelemetry import metrics, trace
    except ImportError:
        raise ConfigurationError(
            "OpenTelemetry is not installed: pip install 'upload-core[telemetry]', or leave it out"
        ) from None
    observer = _Instruments(
        client, meter or metrics.get_meter(SCOPE, __version__), tracer or trace.get_tracer(SCOPE, __version__)
    )
    kinds: set[type[ev.Event]] = {*FILE_STEPS, *MARKS, ev.SessionOpened, ev.SessionClosed}
    return client.subscribe(observer, kinds=kinds)


class _Instruments:
    def __init__(self, client: UploadClient, meter: Meter, tracer: Tracer) -> None:
        self._client = client
        self._tracer = tracer
        self._span: Span | None = None
        self._bytes_counted = 0
        self._files = meter.create_counter("upload_core.files", "{file}", "Files, by the step they took")
        self._bytes = meter.create_counter("upload_core.bytes", "By", "Bytes stored, parts of large files included")
        self._outages = meter.create_counter("upload_core.outages", "{outage}", "Times the archive was out of reach")

    def __call__(self, record: Record) -> None:
        event, kind = record.event, type(record.event)
        if (step := FILE_STEPS.get(kind)) is not None:
            self._files.add(1, {"step": step, **self._delivery})
            if kind is ev.TransferCompleted:
                sent = self._client.bytes_sent
                self._bytes.add(sent - self._bytes_counted, self._delivery)
                self._bytes_counted = sent
            return
        if isinstance(event, ev.OutageBegan):
            self._outages.add(1, self._delivery)
        if isinstance(event, ev.SessionOpened):
            self._span = self._tracer.start_span(
                "upload_core.session", attributes={"upload_core.session": event.session, **self._delivery}
            )
        elif self._span is not None and isinstance(event, ev.SessionClosed):
            self._span.set_attribute("upload_core.outcome", event.outcome)
            self._span.end()
            self._span = None
        elif self._span is not None:
            self._span.add_event(kind.__name__, {"upload_core.seq": record.seq, **_plain(event)})

    @property
    def _delivery(self) -> dict[str, str]:
        created = self._client.delivery.created
        return {"upload_core.dataset": created.dataset, "upload_core.delivery_id": created.delivery_id}


def _plain(event: ev.Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}
