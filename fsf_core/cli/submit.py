"""`fsf submit`: run a command on a Ray cluster, follow its log, and exit with its exit code.

stdout has one line, the command's result as JSON; its log goes to stderr. A connection that drops is made again.
Ctrl-C and SIGTERM stop the job, which commits what it has; a second signal leaves it to the cluster.
Exit codes: that of the command · 2 nothing was submitted · 75 the job ended without a code, or cannot be reached ·
130 or 143 stopped by Ctrl-C or SIGTERM · 143 stopped by somebody else.
"""

import dataclasses
import datetime as dt
import json
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from fsf_core.cli.sources import LOG_FORMAT_VARIABLE
from fsf_core.config import SubmitConfig
from fsf_core.errors import ConfigError, InterruptedRunError

REFUSED = frozenset(("submit", "demo"))
"""Commands that make no sense on a cluster."""


def run(command: Sequence[str], config: SubmitConfig) -> int:
    """Submit, or attach to a job, and follow it; returns the exit code.

    Raises:
        ConfigError: there is no command, or it is no command of a cluster.
    """
    from fsf_core.submit.jobs_client import connect
    from fsf_core.submit.submission import require_valid_id

    for job_id in filter(None, (config.attach, config.submission_id)):
        require_valid_id(job_id)
    if config.attach is not None:
        if command or config.submission_id:
            raise ConfigError("found --attach with a command or --submission-id, expected it alone; drop the others")
        return _attach(connect(config.address, headers=config.headers, verify=config.verify), config)
    prepared = _prepare(command, config)
    return _submit(connect(config.address, headers=config.headers, verify=config.verify), prepared, config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A command that was checked on this machine."""

    words: tuple[str, ...]
    visible: list[str]
    digest: str
    target: str | None
    dates: str | None
    handover: Any


def _prepare(command: Sequence[str], config: SubmitConfig) -> _Prepared:
    """Check the command with its own parser, and collect what it needs on the cluster.

    Raises:
        ConfigError: it is refused.
    """
    from fsf_core.store_settings import submitted_settings
    from fsf_core.submit import command as commands
    from fsf_core.submit.handover import Handover

    if not command or command[0] in REFUSED or command[0].startswith("-"):
        found = f"found {command[0]!r}" if command else "no command is given"
        raise ConfigError(f"{found}, expected a command of fsf after --, such as fsf submit -- score …; add it")
    values = _values_of(command)
    words, attached = commands.attach_files(command, values)
    paths = commands.shared_paths({name: found for name, found in values.items() if name not in commands.ATTACHED})
    variables, files = submitted_settings() if config.credentials else ({}, {})
    visible = commands.visible_words(words)
    options = _options_in_environment(command[0])
    variables |= options
    is_plain = visible == words and not (attached or paths or variables or files)
    handover = Handover(job_id="", words=tuple(words), variables=variables, files=files, attached=attached, paths=paths)
    target = next((value for name in ("out", "run_folder") for value in values.get(name, ())), None)
    return _Prepared(
        words=tuple(words),
        visible=visible,
        digest=commands.command_digest([*command, *map(str, sorted(options.items())), *map(repr, attached.values())]),
        target=target,
        dates=next(iter(values.get("date", ())), None),
        handover=None if is_plain else handover,
    )


def _values_of(command: Sequence[str]) -> dict[str, list[str]]:
    """Return the texts that every option and argument of a command has, from all its sources.

    Raises:
        ConfigError, CycloptsError: its own parser refuses it.
    """
    from fsf_core.cli.app import app
    from fsf_core.cli.sources import config_file, configure
    from fsf_core.submit import command as commands

    words = configure(app, command)
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    values: dict[str, list[str]] = {}
    for name, value in bound.arguments.items():
        fields = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else {name: value}  # type: ignore[arg-type]
        for field, found in fields.items():
            values[commands.PATHS_OF.get((command[0], field), field)] = list(_texts(found))
    if file := config_file(command):
        values["config_file"] = [file]
    # Class names are parsed already; the file that they are read from is on the command line.
    values["classes"] = [word.removeprefix("--classes=") for word in command if word.startswith(("@", "--classes=@"))]
    return values


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _options_in_environment(command: str) -> dict[str, str]:
    """Return the variables of this shell that are options of the command."""
    prefix = f"FSF_{command.upper()}_"
    names = [name for name in os.environ if name.startswith(prefix) or name == LOG_FORMAT_VARIABLE]
    return {name: os.environ[name] for name in names}


def _submit(client: Any, prepared: _Prepared, config: SubmitConfig) -> int:
    """Start the job and follow it; a cluster without this code gets it in a second job."""
    from fsf_core.cli.output import show_error
    from fsf_core.submit.submission import default_id, submit

    base = config.submission_id or default_id(
        prepared.words, prepared.target, prepared.digest, dt.datetime.now(dt.UTC), dates=prepared.dates
    )
    ships = config.ship == "always"
    while True:
        request = _request(prepared, config, base_id=base, ships_code=ships)
        try:
            submitted = submit(client, request, limit_s=config.reconnect_s)
        except InterruptedRunError:
            show_error(f"job {base} may run already; `fsf submit --attach {base}` follows it")
            raise
        verb = "submitted" if submitted.is_new else "runs this command already, following it"
        show_error(f"job {submitted.job_id} {verb}: {shlex.join(prepared.visible)}")
        ended = _follow(client, submitted.job_id, config, prepared.handover)
        if ships or config.ship == "never" or not (ended.differs or ended.found_no_code):
            return _report(submitted.job_id, ended)
        found = f"fsf {ended.differs} with other code" if ended.differs else "no fsf that it can run"
        show_error(f"the cluster has {found}; submitting again, with the code of this machine")
        base, ships = f"{base}-shipped", True


def _request(prepared: _Prepared, config: SubmitConfig, *, base_id: str, ships_code: bool) -> Any:
    from fsf_core import __version__
    from fsf_core.submit.code import code_digest
    from fsf_core.submit.submission import Request

    def entrypoint(job_id: str) -> str:
        options = [] if config.ship == "never" else ["--code", code_digest()]
        options += [] if prepared.handover is None else ["--sealed", job_id]
        # exec: signals and exit codes are those of Python, not of a shell around it.
        words = [config.python, "-m", "fsf_core.cli.submitted", *options, "--", *prepared.visible]
        return f"exec {shlex.join(words)}"

    return Request(
        base_id=base_id,
        is_exact=config.submission_id is not None,
        digest=prepared.digest,
        entrypoint=entrypoint,
        metadata={"fsf_version": __version__, "command": shlex.join(["fsf", *prepared.visible])},
        stop_wait_s=config.stop_wait_s,
        driver_cpus=config.driver_cpus,
        ships_code=ships_code,
    )


def _attach(client: Any, config: SubmitConfig) -> int:
    """Follow a job that another client has submitted.

    Raises:
        ConfigError: the cluster knows no such job.
        ResumableError: it cannot be reached.
    """
    from fsf_core.cli.output import print_json
    from fsf_core.submit.submission import find_job, retried

    assert config.attach is not None
    details = retried(partial(find_job, client, config.attach), time.monotonic() + config.reconnect_s)
    if details is None:
        raise ConfigError(
            f"the cluster knows no job {config.attach}, expected one that `ray job list` shows; correct --attach"
        )
    if not config.wait and not details.status.is_terminal():
        print_json({"job": config.attach, "status": str(details.status)})
        return 0
    return _report(config.attach, _follow(client, config.attach, config, None))


def _follow(client: Any, job_id: str, config: SubmitConfig, handover: Any) -> Any:
    from fsf_core.cli.output import show_error
    from fsf_core.submit.follow import Follower, View

    return Follower(
        client,
        job_id,
        View(line=partial(show_error, lines=True), note=show_error),
        handover=None if handover is None else dataclasses.replace(handover, job_id=job_id),
        stop_wait_s=config.stop_wait_s,
        reconnect_s=config.reconnect_s,
        waits=config.wait,
    ).run()


def _report(job_id: str, ended: Any) -> int:
    """Print the result, and why the job ended where its own log does not say so; returns the exit code."""
    from fsf_core.cli.app import EXIT_USAGE
    from fsf_core.cli.output import print_json, show_error

    if ended.result is not None:
        print_json(json.loads(ended.result))
    elif ended.is_left and ended.outcome.code == 0:
        print_json({"job": job_id, "status": "RUNNING"})
    if ended.outcome.reason:
        show_error(f"job {job_id}: {ended.outcome.reason}")
    if ended.found_no_code:
        show_error(
            f"job {job_id}: fsf did not start there, expected a Python with Ray and the libraries of fsf; "
            "use its image, or pass --python"
        )
        return EXIT_USAGE
    if ended.differs:
        show_error(
            f"job {job_id}: the head of the cluster runs fsf {ended.differs}, whose code is not that of the client; "
            "nothing ran; start Ray there in a folder without fsf_core, which is found before the code that is sent, "
            "or pass --ship never to run the code that is there"
        )
        return EXIT_USAGE
    return int(ended.outcome.code)
