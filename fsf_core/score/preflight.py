"""Whether the nodes of a joined cluster can work on one run: the quick half of `fsf doctor`, at each start of a job.

Checked are the nodes that are alive now: the same versions everywhere, the local files of the job visible everywhere,
the clocks. A node that cannot start a task is reported and does not end the job; the others may do its work.
"""

import contextlib
import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsf_core import storage
from fsf_core.config import ScoreConfig
from fsf_core.errors import ClusterError
from fsf_core.manifest import LABEL_COLUMN, Manifest
from fsf_core.model.bundle import DOCUMENT, Bundle
from fsf_core.score.cluster import joins_cluster
from fsf_core.score.findings import SAME_EVERYWHERE, Finding, Status, failed
from fsf_core.score.node_facts import LIBRARIES, node_facts
from fsf_core.score.node_tasks import Node, Offset, alive_nodes, call_on_nodes, clock_offsets

NODE_LIMIT_S = 60.0
"""How long a node may take to start a task; a worker that imports fsf for the first time takes seconds."""

SKEW_WARN_S = 5.0
"""Difference between clocks that is reported. No lease compares two clocks, so no result depends on it."""

SKEW_FAIL_S = 14 * 60.0
"""S3, Google Cloud Storage and Azure refuse requests that were signed more than 15 minutes ago."""

PROBED_ITEMS = 1_000
"""Items whose stores are contacted before the run begins."""

MARK = ".node-check-"
"""Prefix of the file by which nodes recognise the folder of the run; removed again."""

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the nodes of a cluster report."""

    driver: Mapping[str, Any]
    """Facts of the driver's own machine."""
    facts: Mapping[Node, Mapping[str, Any]]
    reasons: Mapping[Node, str]
    """Why a node reported nothing."""
    offsets: Mapping[Node, Offset]


def require_ready(config: ScoreConfig, out: str, bundle: Bundle, manifest: Manifest) -> None:
    """Refuse a joined cluster whose nodes would not work on the same run; on one's own cluster this does nothing.

    Args:
        config: options of the job.
        out: the run folder, locked by this job.
        bundle: its model.
        manifest: its items.

    Raises:
        ClusterError: found / expected / do, of every node that differs.
    """
    if not joins_cluster(config.ray_address):
        return
    nodes = alive_nodes()
    with marked(out) as mark:
        found = survey(nodes, {**mark, **local_inputs(bundle.uri, first_items(manifest))}, written=[*_folder(mark)])
    findings = [*judge_starts(found), *judge_versions(found), *judge_paths(found), *judge_clocks(found)]
    for finding in findings:
        if finding.status != "ok":
            log.warning("event=node_differs check=%s node=%r found=%r do=%r", *_fields(finding))
    refused = failed(findings)
    if refused:
        raise ClusterError(
            f"{'; '.join(f'{finding.node or finding.check}: {finding.found}' for finding in refused)}; expected nodes "
            f"that can work on one run: {refused[0].do}; run `fsf doctor` with the same options for all checks"
        )


def survey(nodes: Sequence[Node], seen: Mapping[str, str | None], *, written: Sequence[str] = ()) -> Survey:
    """Ask every node for its facts and its clock.

    Args:
        nodes: which.
        seen: local paths that nodes should see, and the text that each file should hold.
        written: local folders that nodes should be able to write to.
    """
    outcomes = call_on_nodes(nodes, node_facts, dict(seen), list(written), limit_s=NODE_LIMIT_S)
    facts = {node: outcome.value for node, outcome in outcomes.items() if not outcome.reason}
    return Survey(
        driver=node_facts({}),
        facts=facts,
        reasons={node: outcome.reason for node, outcome in outcomes.items() if outcome.reason},
        offsets=clock_offsets([*facts]),
    )


@contextlib.contextmanager
def marked(out: str) -> Iterator[dict[str, str | None]]:
    """Put a file into a local folder for the length of a block.

    Yields:
        Its path and its content; nothing for a folder in a store.

    Raises:
        StorageError: the folder cannot be written.
    """
    if not storage.is_local(out):
        yield {}
        return
    text = secrets.token_hex(16)
    path = storage.join(out, f"{MARK}{text[:8]}")
    try:
        # Durable: other machines see a file of a network disk once it is flushed and closed.
        storage.write_bytes(path, text.encode(), durable=True, root=out)
        yield {str(storage.local_path(path).absolute()): text}
    finally:
        storage.remove(path)


def local_inputs(bundle_uri: str | None, items: Iterable[str]) -> dict[str, None]:
    """Return the local paths that every node must read: of the bundle and of items that the driver sees."""
    uris = [storage.join(bundle_uri, DOCUMENT)] if bundle_uri else []
    uris += [storage.container_of(uri) for uri in items]
    paths = [storage.local_path(uri).absolute() for uri in uris if storage.is_local(uri)]
    return {str(path): None for path in paths if path.exists()}


def first_items(manifest: Manifest, count: int = 1) -> list[str]:
    """Return the addresses of the first items."""
    return list(next(manifest.batches()).column("uri").slice(0, count).to_pylist())


def first_labels(manifest: Manifest, count: int) -> list[str]:
    """Return the addresses of the labels of the first items; none of a list without labels."""
    if not manifest.has_labels:
        return []
    return list(next(manifest.batches()).column(LABEL_COLUMN).slice(0, count).drop_null().to_pylist())


def require_reachable_stores(manifest: Manifest) -> None:
    """Contact the store of each of the first items and labels once: wrong credentials end the job, not every item.

    Raises:
        StorageError: a store refuses all access.
    """
    first: dict[str, str] = {}
    uris = [*first_items(manifest, PROBED_ITEMS), *first_labels(manifest, PROBED_ITEMS)]
    for uri in map(storage.container_of, uris):
        if not storage.is_local(uri):
            first.setdefault(uri.split("/", 3)[2], uri)
    for uri in first.values():
        storage.require_bucket(uri)


def judge_starts(found: Survey) -> list[Finding]:
    """Judge whether the nodes can start tasks; the job needs one that does."""
    working = any(node.works for node in found.facts)
    do = "look at its raylet.out and worker logs, or take it out of the cluster"
    return [
        Finding(
            check="tasks",
            status="warn" if working else "fail",
            node=str(node),
            found=f"no task starts: {reason}",
            do=do,
        )
        for node, reason in found.reasons.items()
    ]


def judge_versions(found: Survey) -> list[Finding]:
    """Compare every node's versions with the driver's."""
    return [finding for node, facts in found.facts.items() for finding in _judge_node(node, facts, found.driver)]


def _judge_node(node: Node, facts: Mapping[str, Any], driver: Mapping[str, Any]) -> Iterator[Finding]:
    programs = [
        f"{name} {facts[key] or 'none'} (driver: {driver[key]})"
        for key, name in (("python", "Python"), ("ray", "Ray"), ("fsf", "fsf"))
        if facts[key] != driver[key]
    ]
    if not programs and facts["fsf_code"] != driver["fsf_code"]:
        programs = [f"fsf {facts['fsf']} of other code, {facts['fsf_code']} (driver: {driver['fsf_code']})"]
    if programs:
        found = ", ".join(programs)
        yield Finding(check="versions", status="fail", node=str(node), found=found, do=SAME_EVERYWHERE)
    libraries = [
        f"{name} {facts['libraries'][name] or 'none'} (driver: {driver['libraries'][name] or 'none'})"
        for name in LIBRARIES
        if facts["libraries"][name] != driver["libraries"][name]
    ]
    if libraries:
        missing = [name for name in LIBRARIES if not facts["libraries"][name]]
        yield Finding(
            check="libraries",
            status="fail" if missing and node.works else "warn",
            node=str(node),
            found=", ".join(libraries),
            do="give every node the same image: nodes of different libraries may write different masks",
        )
    if not programs and not libraries:
        shown = f"Python {facts['python']}, Ray {facts['ray']}, fsf {facts['fsf']}, the same as the driver"
        yield Finding(check="versions", status="ok", node=str(node), found=shown)


def judge_paths(found: Survey) -> list[Finding]:
    """Judge whether every node that does work sees the local files of the job, and may write to the run folder."""
    findings = []
    for node, facts in found.facts.items():
        if not node.works:
            continue
        lost = [f"{_shown(path)} ({reason})" for path, reason in facts["unseen"].items()]
        if lost:
            shown = f"does not see the driver's {', '.join(lost)}"
            do = "use a bucket (s3://…), or a disk that is mounted at the same path on every node"
        elif facts["unwritable"]:
            shown = f"may not write to {', '.join(facts['unwritable'])}"
            do = "mount it writable there, and let the user of Ray's workers write to it"
        else:
            continue
        findings.append(Finding(check="shared files", status="fail", node=str(node), found=shown, do=do))
    return findings


def judge_clocks(found: Survey) -> list[Finding]:
    """Compare the clocks of the nodes with the driver's."""
    findings = []
    for node, offset in found.offsets.items():
        beyond_s = abs(offset.ahead_s) - offset.uncertainty_s
        direction = "ahead of" if offset.ahead_s > 0 else "behind"
        shown = f"{abs(offset.ahead_s):.2f} ± {offset.uncertainty_s:.2f} s {direction} the driver's clock"
        status = skew_status(beyond_s)
        do = {
            "ok": "",
            "warn": "synchronise it (chrony, or systemd-timesyncd): results do not depend on it, but logs and metrics "
            "of this node do, and stores refuse requests signed with a clock 15 minutes off",
            "fail": "synchronise it (chrony, or systemd-timesyncd): stores refuse requests signed with such a clock",
        }[status]
        findings.append(Finding(check="clock", status=status, node=str(node), found=shown, do=do))
    return findings


def skew_status(beyond_s: float) -> Status:
    """Judge a difference between clocks, less its uncertainty."""
    return "fail" if beyond_s > SKEW_FAIL_S else "warn" if beyond_s > SKEW_WARN_S else "ok"


def _shown(path: str) -> str:
    """Return a path for a message; of the mark its folder, which is what the user named."""
    folder, _, name = path.rpartition("/")
    return f"--out {folder}" if name.startswith(MARK) else path


def _folder(mark: Mapping[str, str | None]) -> Iterator[str]:
    """Yield the folder of a mark."""
    for path in mark:
        yield path.rpartition("/")[0]


def _fields(finding: Finding) -> tuple[str, str, str, str]:
    return finding.check, finding.node, finding.found, finding.do
