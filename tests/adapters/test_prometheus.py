"""The file for Prometheus: right figures, whole at any moment, and harmless where it cannot be written."""

import os

import msgspec

from tests.crash.world import FILES, World
from upload_adapters.prometheus import EVERY_S, MetricsFile, exposition
from upload_core import events as ev


def samples(text):
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_at_the_end_it_says_how_the_delivery_ended(tmp_path):
    client = World().client()
    MetricsFile(client, tmp_path / "m.prom")
    summary = client.run()
    found = samples((tmp_path / "m.prom").read_text())
    states = {name.split('state="')[1][:-2]: int(value) for name, value in found.items() if "state=" in name}
    assert states == summary.counts
    [sent] = [value for name, value in found.items() if name.startswith("upload_core_sent_bytes")]
    assert int(sent) == sum(map(len, FILES.values()))
    assert sorted(os.listdir(tmp_path)) == ["m.prom"], "nothing is left beside it"


def test_it_is_written_now_and_then_and_not_for_every_event(tmp_path, monkeypatch):
    client, now, written = World(bad=[]).client(), [0.0], []
    monkeypatch.setattr(MetricsFile, "write", lambda _: written.append(now[0]))
    MetricsFile(client, tmp_path / "m.prom", lambda: now[0])
    client.subscribe(lambda _: now.append(now.pop() + EVERY_S), kinds={ev.IndexWritten})
    client.run()
    assert written == [0.0, EVERY_S, EVERY_S], "the first event, one after a while, and the end"


def test_a_place_that_cannot_be_written_harms_nothing(tmp_path):
    client = World(bad=[]).client()
    kept = MetricsFile(client, tmp_path / "no" / "m.prom")
    assert client.run().exit_code == 0
    assert "cannot be written" in kept.trouble


def test_a_file_of_others_is_left_alone_and_one_of_ours_is_replaced(tmp_path):
    (tmp_path / "m.prom").write_text("node_load1 0.5\n")
    kept = MetricsFile(World(bad=[]).client(), tmp_path / "m.prom")
    kept.write()
    assert "is no metrics file of ours; move it away" in kept.trouble
    assert (tmp_path / "m.prom").read_text() == "node_load1 0.5\n"
    (tmp_path / "m.prom").unlink()
    for _ in range(2):
        kept.write()
        assert kept.trouble == ""


def test_nothing_is_left_beside_a_place_that_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "directory").mkdir()
    for place in (tmp_path / "directory", ".", ""):
        client = World(bad=[]).client()
        kept = MetricsFile(client, place)
        assert client.run().exit_code == 0
        assert "cannot be written" in kept.trouble
    assert os.listdir(tmp_path) == ["directory"]


def test_every_sample_has_its_type_and_labels_are_escaped():
    delivery = World(bad=[]).client().delivery
    delivery.created = msgspec.structs.replace(delivery.created, dataset='a"b\\c\nd')
    typed = ""
    for line in exposition(delivery, 0).splitlines():
        if line.startswith("# TYPE"):
            typed = line.split()[2]
        elif not line.startswith("#"):
            assert line.startswith(f'{typed}{{dataset="a\\"b\\\\c\\nd",')
            assert line.rsplit(" ", 1)[1].isdigit()
