"""Settings travel sealed, and lines of the log are recognised."""

import base64
import json

import pytest
from nacl.public import PrivateKey, SealedBox

from fsf_core.submit.handover import PREFIX, Handover, announce, package_name, parse_announcement, seal


def test_only_the_owner_of_the_key_reads_what_was_sealed():
    key = PrivateKey.generate()
    public = base64.urlsafe_b64encode(bytes(key.public_key)).decode()
    handover = Handover(
        job_id="night",
        words=("score", "--manifest", "https://host/list?sig=secret"),
        variables={"AWS_SECRET_ACCESS_KEY": "verysecret"},
        files={"GOOGLE_APPLICATION_CREDENTIALS": b"\x00verysecret"},
    )
    name, sealed = seal(handover, public)
    document = json.loads(SealedBox(key).decrypt(sealed))

    assert b"secret" not in sealed
    assert name == package_name(bytes(key.public_key))
    assert document["words"][2].endswith("sig=secret")
    assert document["variables"] == handover.variables
    assert base64.b64decode(document["files"]["GOOGLE_APPLICATION_CREDENTIALS"]) == b"\x00verysecret"
    assert "secret" not in repr(Handover(job_id="night", words=(), variables=handover.variables, files=handover.files))


@pytest.mark.parametrize(
    ("event", "text", "facts"),
    [
        ("job_started", "", {"version": "0.1.0"}),
        ("settings_received", "", {}),
        ("result", '{"a": "b c", "d": {"e": "f=g"}}', {}),
        ("settings_awaited", "", {"key": "x_-="}),
    ],
)
def test_what_is_announced_is_parsed(capsys, event, text, facts):
    announce(event, text, **facts)
    line = capsys.readouterr().out.removesuffix("\n")
    announcement = parse_announcement(line)

    assert line.startswith(PREFIX)
    assert announcement is not None
    assert (announcement.event, announcement.text, announcement.facts) == (event, text, facts)


@pytest.mark.parametrize(
    "line", ["", "event=result {}", "fsf-submit", "fsf-submit is a command", " fsf-submit event=x"]
)
def test_other_lines_are_no_announcements(line):
    assert parse_announcement(line) is None
