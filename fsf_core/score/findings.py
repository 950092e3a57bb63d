"""What a check found, and what to do about it. Knows no checks."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warn", "fail"]

SAME_EVERYWHERE = "give every node the image, or the installation, of the driver"
"""What to do about a node that runs another program."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    """What was checked, such as `clock`."""
    status: Status
    """fail: the job could not run, or would lose results."""
    found: str
    do: str = ""
    """What to do; empty for ok."""
    node: str = ""
    """The node that it is about; empty for the driver, or the whole cluster."""

    def __str__(self) -> str:
        """Return the finding on one line."""
        where = f" on {self.node}" if self.node else ""
        return f"{self.status.upper():4} {self.check}{where}: {self.found}{f'; {self.do}' if self.do else ''}"

    def to_json(self) -> dict[str, Any]:
        """Return the finding as a JSON object."""
        return asdict(self)


def refusal(check: str, message: str, *, status: Status = "fail", node: str = "") -> Finding:
    """Return an error of this project as a finding: its message ends in what to do, after the last semicolon."""
    found, separator, do = message.rpartition("; ")
    return Finding(
        check=check, status=status, found=found if separator else message, do=do if separator else "", node=node
    )


def failed(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings with which the job could not run."""
    return [finding for finding in findings if finding.status == "fail"]
