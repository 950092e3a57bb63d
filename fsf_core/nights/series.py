"""A series: the runs below a template, by their dates; its lock, and the pointer to its newest finished run."""

import contextlib
import datetime as dt
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fsf_core import runs, storage
from fsf_core.nights.template import Template, name_pattern, parse_template
from fsf_core.runs import latest
from fsf_core.runs.folder import document_bytes
from fsf_core.runs.lease import lease

STATE = ".nights"
"""Hidden folder at the root of series: their locks, and runs on a disk that are being removed."""

POINTER_LAYOUT = 1

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class Night:
    """A folder of a series."""

    moment: dt.datetime
    """The date in its path; a folder has no time zone."""
    path: str
    """Below the root of the series."""
    uri: str


class Series:
    """The runs below a template."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self._held = False

    def nights(self) -> list[Night]:
        """Return the folders whose paths the template makes of a date, the newest first; they need not be runs.

        One listing for a template of one name; of `{date:%Y}/{date:%m}` one more for every year.

        Raises:
            StorageError: the store refuses.
        """
        paths = [""]
        for name in self.template.names:
            pattern = re.compile(name_pattern(name))
            if pattern.pattern == re.escape(name):
                paths = [f"{path}/{name}" for path in paths]
                continue
            listed = ((path, storage.list_names(storage.join(self.template.root, path), "")) for path in paths)
            paths = [f"{path}/{found}" for path, names in listed for found in names if pattern.fullmatch(found)]
        dated = ((self.template.moment(path[1:]), path[1:]) for path in paths)
        nights = [
            Night(moment=moment, path=path, uri=storage.join(self.template.root, path))
            for moment, path in dated
            if moment is not None
        ]
        return sorted(nights, key=lambda night: (night.moment, night.path), reverse=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other jobs of the series out until the block ends; inside such a block nothing more is done.

        Raises:
            OutputError: a job of the series is running.
            LeaseLostError: another job took the series over before the block ended.
        """
        if self._held:
            yield
            return
        uri = storage.join(self.template.root, STATE, self.template.identity)
        with lease(uri, name=f"the series {storage.redact(self.template.uri)}"):
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def newest_finished(self) -> Night | None:
        """Return the newest night that has finished."""
        return next((night for night in self.nights() if runs.is_finished(night.uri)), None)

    def advance(self) -> None:
        """Make the pointer name the newest finished run, wherever it points now.

        Raises:
            StorageError: the store refuses.
        """
        if not self.template.readable:
            return
        root, pointer = self.template.root, self.template.pointer + latest.SUFFIX
        newest = self.newest_finished()
        known = latest.read_pointer(root, pointer) or {}
        if newest is None or (known.get("run"), known.get("template")) == (newest.path, self.template.written):
            return
        content = {
            "layout": POINTER_LAYOUT,
            "template": self.template.written,
            "run": newest.path,
            "date": newest.moment.isoformat(),
            "written_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        for draft in storage.list_names(root, f".{pointer}.") if storage.is_local(root) else ():
            storage.remove(storage.join(root, draft))  # of a job that was killed
        storage.write_bytes(storage.join(root, pointer), document_bytes(content), durable=True)
        log.info("event=pointer_written pointer=%s run=%s", storage.redact(storage.join(root, pointer)), newest.path)

    def report_unfinished(self, own: str) -> None:
        """Log the runs that were begun and not finished since the newest finished one, apart from one.

        Args:
            own: path of the night that is about to be scored.
        """
        for night in self.nights() if self.template.readable else ():
            if runs.is_finished(night.uri):
                return
            if night.path != own and storage.exists(storage.join(night.uri, "run.json")):
                log.warning(
                    "event=night_unfinished run=%s do='the same command with --date %s resumes it'",
                    storage.redact(night.uri),
                    night.moment.isoformat() if self.template.has_times else night.moment.date(),
                )


def series_of(out: str) -> Series | None:
    """Return the series of an output folder; None if it is no template, or one without a fixed folder."""
    template = parse_template(storage.absolute(out))
    return Series(template) if template else None
