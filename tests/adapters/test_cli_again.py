"""The command that delivers an index again, as a journal knows it."""

import shlex

from upload_adapters.cli.again import deliver_command, fresh_journal
from upload_core import events as ev


def created(archive: str, **settings: str) -> ev.DeliveryCreated:
    return ev.DeliveryCreated("m31", "1", "staging", "ada@ridge:1", "/data/m31", archive, "", 4, settings)


def test_of_a_journal_that_does_not_know_its_index_a_word_stands_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = deliver_command(created("file:///archive"), "/data/m 31", str(tmp_path / "j"))
    assert command == (
        "upload-core deliver '/data/m 31' INDEX --dataset m31 --delivery-id 1 --to file:///archive --journal j"
    )


def test_an_archive_in_aws_is_named_by_its_deployment_file_and_what_was_set_over_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = created(
        "aws:mast:m31-1-staging",
        index=str(tmp_path / "i.csv"),
        label=str(tmp_path / "label.yaml"),
        deployment_file=str(tmp_path / "mast.toml"),
        UPLOAD_CORE_DEPLOYMENT_REGION="us-west-2",
    )
    journal = str(tmp_path / ".upload-core" / "m31-1-staging")
    words = shlex.split(deliver_command(known, "s3://bucket/m31", journal))
    assert words[2:4] == ["s3://bucket/m31", "i.csv"]
    assert words[words.index("--to") + 1] == "mast.toml"
    assert words[words.index("--label") + 1] == "label.yaml"
    assert words[words.index("--set") + 1] == "deployment.region=us-west-2"
    assert "--journal" not in words
    moved = shlex.split(deliver_command(known, "s3://bucket/m31", journal, to="moved.toml"))
    assert moved[moved.index("--to") + 1] == "moved.toml"


def test_a_fresh_journal_is_where_none_is(tmp_path):
    (tmp_path / "j-2").touch()
    assert fresh_journal(str(tmp_path / "j")) == str(tmp_path / "j-3")
