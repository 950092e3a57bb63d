"""Checks of the nodes of the cluster: what each reports about itself, and which files and items each reads."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fsf_core import storage
from fsf_core.doctor import driver
from fsf_core.doctor.checks import NotCheckedError
from fsf_core.doctor.machine import judge_machine
from fsf_core.doctor.subject import Once, Subject
from fsf_core.score import plan, preflight
from fsf_core.score.cluster import joins_cluster
from fsf_core.score.findings import Finding, failed, refusal
from fsf_core.score.node_facts import write_mark
from fsf_core.score.node_tasks import Node, alive_nodes, call_on_nodes, fetch_around

WRITE_LIMIT_S = 30.0
ITEMS_LIMIT_S = 120.0
NETWORK_LIMIT_S = 30.0
OBJECT_BYTES = 1 << 20
"""Larger than what Ray sends with the reply of a task."""

LOOK = "look at the node's raylet.out and worker logs, or take it out of the cluster"


@dataclass(frozen=True, kw_only=True)
class Reports:
    """What the nodes report, and what became of the files that they wrote to a local --out."""

    survey: preflight.Survey
    writing: Mapping[Node, str] = field(default_factory=dict)
    """Why a node cannot write there, or not where the driver reads; empty where it can."""

    def usable(self) -> list[Node]:
        """Return the nodes that do work and run what the driver runs."""
        different = {finding.node for finding in failed(preflight.judge_versions(self.survey))}
        return [node for node in self.survey.facts if node.works and str(node) not in different]


class Nodes:
    """The nodes of the cluster that this process has joined."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._nodes = alive_nodes()
        self.reports = Once(self._ask)

    def _ask(self) -> Reports:
        """Ask every node for its facts; where --out is a local folder, nodes must see and write the same one."""
        out, config = self._subject.out, self._subject.config
        joined = joins_cluster(config.ray_address)
        seen: dict[str, str | None] = dict(self._inputs()) if joined else {}
        if not (joined and out and storage.is_local(out)):
            return Reports(survey=preflight.survey(self._nodes, seen))
        with storage.empty_folders_removed(str(storage.local_path(out).absolute())):
            storage.local_path(out).mkdir(parents=True, exist_ok=True)
            with preflight.marked(out) as mark:
                survey = preflight.survey(self._nodes, {**mark, **seen}, written=[out])
                return Reports(survey=survey, writing=_write(survey, next(iter(mark))))

    def _inputs(self) -> dict[str, None]:
        """Return the local paths that every node must read."""
        bundle, items = self._subject.config.bundle, list[str]()
        with contextlib.suppress(NotCheckedError):
            items = preflight.first_items(self._subject.required_manifest())
        return preflight.local_inputs(storage.absolute(bundle) if bundle else None, items)

    def check_nodes(self) -> Iterator[Finding]:
        """Compare the nodes with the driver, and judge the resources that Ray does not count."""
        reports = self.reports.get()
        survey = reports.survey
        yield from preflight.judge_starts(survey)
        yield from preflight.judge_versions(survey)
        yield from preflight.judge_clocks(survey)
        yield from preflight.judge_paths(survey)
        for node, reason in reports.writing.items():
            yield _judge_writing(node, reason, self._subject.out)
        for node, facts in survey.facts.items():
            yield from judge_machine(node, facts)
        if self._subject.config.checkpoint and not any(facts["torch"] for facts in survey.facts.values()):
            do = "install fsf[export] on one node, or export the bundle elsewhere and pass --bundle"
            yield Finding(check="export", status="fail", found="no node has torch, which --checkpoint needs", do=do)

    def check_items(self) -> Iterator[Finding]:
        """Read the first items from every node that does work: settings of stores must reach them."""
        access = plan.item_access(self._subject.config)
        here = preflight.first_items(self._subject.required_manifest(), driver.READ_ITEMS)
        unread = driver.read_beginnings(here, access)
        uris = [uri for uri in here if uri not in unread]
        if not uris:
            raise NotCheckedError("no item that the driver can read")
        nodes = self.required_nodes()
        for node, outcome in call_on_nodes(nodes, driver.read_beginnings, uris, access, limit_s=ITEMS_LIMIT_S).items():
            failures = [*(outcome.value or {}).values()]
            if outcome.reason:
                found = f"not checked: {outcome.reason}"
                yield Finding(check="items", status="warn", node=str(node), found=found, do=LOOK)
            elif failures:
                yield refusal("items", f"{len(failures)} of {len(uris)} cannot be read: {failures[0]}", node=str(node))
            else:
                yield Finding(check="items", status="ok", node=str(node), found=f"{len(uris)} items can be read")

    def check_network(self) -> Iterator[Finding]:
        """Let every node fetch an object from another one."""
        nodes = [*self.reports.get().survey.facts]
        if len(nodes) < 2:  # noqa: PLR2004 - one has no other
            return
        outcomes = fetch_around(nodes, size_bytes=OBJECT_BYTES, limit_s=NETWORK_LIMIT_S)
        failures = {node: outcome.reason for node, outcome in outcomes.items() if outcome.reason}
        for node, reason in failures.items():
            before = nodes[nodes.index(node) - 1]
            yield Finding(
                check="network",
                status="fail",
                node=str(node),
                found=f"an object of {before} was not fetched: {reason}",
                do="open the ports of Ray (node manager, object manager, workers) between all nodes",
            )
        if not failures:
            found = f"each of {len(nodes)} nodes fetches objects from another"
            yield Finding(check="network", status="ok", found=found)

    def required_nodes(self) -> Sequence[Node]:
        """Return the nodes on which the code of the job can be tried.

        Raises:
            NotCheckedError: there is none.
        """
        nodes = self.reports.get().usable()
        if not nodes:
            raise NotCheckedError("no node has CPUs or GPUs now, starts tasks and runs what the driver runs")
        return nodes


def _write(survey: preflight.Survey, mark: str) -> dict[Node, str]:
    """Let every node write a file beside the mark, and read it here; returns why that fails."""
    nodes = [node for node, facts in survey.facts.items() if node.works and not facts["unseen"]]
    marks = {node: Path(f"{mark}-{node.id[:8]}") for node in nodes}
    reasons = {}
    try:
        for node, path in marks.items():
            outcome = call_on_nodes([node], write_mark, str(path), node.id, limit_s=WRITE_LIMIT_S)[node]
            reasons[node] = outcome.reason
            if not outcome.reason and not (path.exists() and path.read_text() == node.id):
                reasons[node] = "what it writes does not appear on the driver"
    finally:
        for path in marks.values():
            path.unlink(missing_ok=True)
    return reasons


def _judge_writing(node: Node, reason: str, out: str) -> Finding:
    """Judge a file that a node wrote to the folder of the run."""
    if not reason:
        found = f"reads and writes {out} as the driver does"
        return Finding(check="shared files", status="ok", node=str(node), found=found)
    do = "use a bucket (s3://…), or a disk that is mounted writable at the same path on every node"
    return Finding(check="shared files", status="fail", node=str(node), found=f"cannot write to {out}: {reason}", do=do)
