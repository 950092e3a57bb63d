"""No message shows a credential, and no text that is printed acts on a terminal."""

import json
import pickle
import sys

import pytest

from fsf_core.errors import FetchError, FSFError, GateError, InterruptedRunError, ItemNotFoundError
from fsf_core.safe_text import HIDDEN, json_line, printable, redact_message

SECRET = "hunter2/Secret+value"  # noqa: S105 - none


@pytest.mark.parametrize(
    "text",
    [
        f"https://bob:{SECRET}@host/a",
        f"ray://:{SECRET}@127.0.0.1:9 refuses",
        f"cannot reach bob:{SECRET.replace('/', '')}@127.0.0.1:9",
        f"https://host/a?X-Amz-Signature={SECRET}&x=1",
        f"https://host/a?X-Goog-Signature={SECRET}",
        f"/container/blob?sv=2026&sig={SECRET}",
        f"https://host/a?access_token={SECRET}",
        f"header Authorization: Basic {SECRET}",
        f"'Authorization': 'Bearer {SECRET}'",
        f"sent bearer {SECRET}",
        f"AccountName=me;AccountKey={SECRET};EndpointSuffix=x",
        f"aws_secret_access_key = {SECRET}",
        f'{{"password": "{SECRET}"}}',
    ],
)
def test_a_message_shows_no_credential(text):
    for shown in (redact_message(text), str(FSFError(text)), str(FetchError(text, 1)), str(ItemNotFoundError(text))):
        assert "Secret" not in shown
        assert HIDDEN in shown


@pytest.mark.parametrize(
    "text",
    [
        "found 3 bytes, expected 4; at 12:30 ask me@example.com",
        "abfss://container@account.dfs.core.windows.net/a.jpg has the scheme 'abfss'",
        "the parameter key=236 of https://host/get?key=236&id=7",
        "/photos/me:you@home.jpg does not exist; correct the address",
        "pass AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; the password or token is wrong",
    ],
)
def test_a_message_without_credentials_stays(text):
    assert redact_message(text) == text


@pytest.mark.parametrize(
    ("name", "value", "quoted"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI/K7MDENG"),
        ("AWS_SESSION_TOKEN", "FwoGZXIvYXdzEBYaD", "FwoGZXIvYXdzEBYaD"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "Eby8vdM02xNOcqFl", "Eby8vdM02xNOcqFl"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=me;AccountKey=Eby8vdM02x==;A=b", "Eby8vdM02x=="),
        ("AZURE_STORAGE_SAS_TOKEN", "sv=2026&se=abcdefgh", "sv=2026&se=abcdefgh"),
        ("HF_TOKEN", "hf_abcdefgh", "hf_abcdefgh"),
        ("FSSPEC_S3", '{"key": "me", "secret": "wJalrXUtn", "client_kwargs": {"a": 1}}', "wJalrXUtn"),
        ("FSSPEC_AZ", '{"nested": [{"account_key": "Eby8vdM02x"}]}', "Eby8vdM02x"),
        ("HTTPS_PROXY", "http://bob:pr0xyPass@proxy:3128", "pr0xyPass"),
        ("FSF_SCORE_BUNDLE", "https://bob:pa%40ss%20word@host/b", "pa@ss word"),
    ],
    ids=range(10),  # pytest keeps the name of the test in a variable
)
def test_the_secrets_of_the_environment_are_hidden_wherever_they_occur(name, value, quoted, monkeypatch):
    assert quoted in redact_message(f"the library quotes {quoted} here")
    monkeypatch.setenv(name, value)
    assert str(FSFError(f"the library quotes {quoted} here")) == f"the library quotes {HIDDEN} here"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/keys.json"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("TOKENIZERS_PARALLELISM", "parallel"),
        ("AWS_SECRET_ACCESS_KEY", "a b"),
        ("FSSPEC_S3", "no json"),
    ],
)
def test_other_variables_are_no_secrets(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    assert redact_message(f"found {value}") == f"found {value}"


def test_passwords_of_the_command_line_are_hidden_in_any_form(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fsf", "--bundle", "https://bob:s3cretWord@host/b"])
    assert redact_message("login 's3cretWord' failed") == f"login '{HIDDEN}' failed"


def test_an_error_stays_redacted_where_it_is_pickled_and_raised_anew():
    error, interrupted = pickle.loads(  # noqa: S301 - as Ray does
        pickle.dumps((GateError(f"https://bob:{SECRET}@host/a"), InterruptedRunError(15)))
    )
    assert type(error) is GateError
    assert error.args == (f"https://{HIDDEN}@host/a",)
    assert interrupted.exit_code == 143


def test_the_message_of_an_error_does_not_act_on_a_terminal():
    error = FetchError("photo\u202e\x1b[2J\udc80.jpg\nis gone")
    assert str(error) == "photo\\u202e\\u001b[2J\\udc80.jpg\nis gone"
    assert str(FSFError(str(error))) == str(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\u001b[2J\u001b]0;title\u0007"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x9b31m \x7f", r"\u009b31m \u007f"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("\u2066a\u2069\u2028\u2029\ufeff\u200b", r"\u2066a\u2069\u2028\u2029\ufeff\u200b"),
        ("\U000e0041", r"\udb40\udc41"),
        ("\udc80", r"\udc80"),
        ("zoë–柿 👩\u200d🌾", "zoë–柿 👩\u200d🌾"),
    ],
)
def test_characters_that_act_on_a_terminal_are_escaped(text, expected):
    assert printable(text) == expected
    assert json.loads(json_line({text: [text]})) == {text: [text]}, "JSON stays the same document"
    assert printable(json_line({text: text})) == json_line({text: text})


def test_text_of_several_lines_keeps_its_lines():
    assert printable("a\tb\n\x1bc", lines=True) == "a\tb\n\\u001bc"


def test_a_document_shows_no_credential():
    shown = json.loads(
        json_line({"run": f"s3://KEY:{SECRET}@bucket", "n": 1, "list": [f"https://h/?sig={SECRET}", None]})
    )
    assert shown == {"run": f"s3://{HIDDEN}@bucket", "n": 1, "list": [f"https://h/?sig={HIDDEN}", None]}


@pytest.mark.parametrize("piece", ["!", "a:", "://a:", "?sig=", "bearer "])
def test_hostile_text_is_redacted_in_linear_time(piece):
    assert redact_message(piece * 50_000)
