"""OpenTelemetry through its real SDK: counters that add up, one span per session, and no cost where it is not asked for."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.command_line import environment
from tests.crash.world import FILES, World
from upload_adapters import telemetry
from upload_core import events as ev
from upload_core.errors import ArchiveUnavailableError, ConfigurationError


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def instrument(reader, spans):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([reader])
    yield lambda client: telemetry.instrument(
        client, meter=meters.get_meter("test"), tracer=provider.get_tracer("test")
    )
    meters.shutdown()


def counted(reader):
    data = reader.get_metrics_data()
    return {
        (metric.name, point.attributes.get("step", "")): point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def test_files_and_bytes_add_up(reader, instrument):
    world = World()
    client = world.client()
    instrument(client)
    summary = client.run()
    figures = counted(reader)
    assert figures["upload_core.files", "stored"] == len(FILES)
    assert figures["upload_core.files", "valid"] == summary.counts["valid"]
    assert figures["upload_core.files", "invalid"] == summary.counts["invalid"] > 0
    assert figures["upload_core.bytes", ""] == client.bytes_sent == sum(map(len, FILES.values()))


def test_a_session_is_one_span_with_its_outages_as_events(instrument, spans, reader):
    world = World(bad=[])
    times = 3

    def before(port, method, args):
        nonlocal times
        if (port, method) == ("archive", "put") and times:
            times -= 1
            raise ArchiveUnavailableError("gone")

    world.calls.before = before
    client = world.client()
    instrument(client)
    client.run()
    [span] = spans.get_finished_spans()
    assert span.name == "upload_core.session"
    assert span.attributes["upload_core.outcome"] == "complete"
    assert {"OutageBegan", "OutageEnded", "ValidatorStarted"} <= {event.name for event in span.events}
    assert counted(reader)["upload_core.outages", ""] >= 1


def test_it_can_be_ended(reader, instrument):
    world = World(bad=[])
    client = world.client()
    instrument(client)()
    client.run()
    assert reader.get_metrics_data() is None


def test_every_step_and_mark_is_an_event():
    assert {*telemetry.FILE_STEPS, *telemetry.MARKS} <= set(ev.EVENTS)


def test_nothing_of_it_is_imported_unless_asked_for():
    code = "import sys, upload_adapters.wiring; print([n for n in sys.modules if n.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_where_it_is_not_installed_the_error_says_how_to(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match="upload-core\\[telemetry\\]"):
        telemetry.instrument(World().client())
