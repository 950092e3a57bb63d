"""Running checks: side by side, each with a limit, none of which can end the command.

Knows no subject. What a check raises becomes a line.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from fsf_core.errors import FSFError
from fsf_core.safe_text import redact_message
from fsf_core.score.findings import Finding, refusal


class NotCheckedError(Exception):
    """A check cannot be done; the message is the reason."""


@dataclass(kw_only=True)
class Check:
    """A check, started when it is made."""

    name: str
    """What is checked, such as `bundle`."""
    call: Callable[[], Iterable[Finding]]
    limit_s: float
    _found: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start the check in a thread of its own; one that hangs does not keep the process alive."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for finding in self.call():
                self._found.append(finding)
        except NotCheckedError as error:
            self._found.append(self._finding("warn", f"not checked: {error}"))
        except FSFError as error:  # found, expected and do in one
            self._found.append(refusal(self.name, str(error)))
        except (OSError, MemoryError, RecursionError) as error:
            found = redact_message(f"{type(error).__name__}: {error}")
            self._found.append(self._finding("fail", found, "check the path, its permissions and the free space"))
        except Exception as error:  # noqa: BLE001 - a bug of one check must not hide the others
            found = redact_message(f"not checked: unexpected {type(error).__name__}: {error}")
            self._found.append(self._finding("warn", found, "report this as a bug"))

    def _finding(self, status: str, found: str, do: str = "") -> Finding:
        return Finding(check=self.name, status=status, found=found, do=do)  # type: ignore[arg-type] # one of Status

    def findings(self) -> Iterator[Finding]:
        """Yield what was found, once the check has ended or its time has."""
        self._thread.join(self.limit_s)
        late = self._thread.is_alive()
        yield from [*self._found]
        if late:
            found = f"no result within {self.limit_s:.0f} s"
            yield self._finding("fail", found, "find out what does not respond: a network disk, a store, or a node")

    def end(self, timeout_s: float) -> None:
        """Wait for the check to end, for one that removes what it wrote."""
        self._thread.join(timeout_s)
