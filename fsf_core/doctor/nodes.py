"""Checks of the nodes of the cluster: what each reports, a session on each, and room for the actors."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fsf_core import storage
from fsf_core.doctor.checks import NotCheckedError
from fsf_core.doctor.subject import Once, Subject
from fsf_core.errors import FSFError
from fsf_core.score import plan, preflight
from fsf_core.score.cluster import joins_cluster
from fsf_core.score.findings import Finding, Status, refusal
from fsf_core.score.node_facts import write_mark
from fsf_core.score.node_tasks import Node, Outcome, alive_nodes, call_on_nodes
from fsf_core.score.session_check import try_session
from fsf_core.score.spec import GPU_PROVIDERS

SESSION_LIMIT_S = 180.0
"""How long a node may take to open a session: it reads the model and starts a process."""

WRITE_LIMIT_S = 30.0

NEWEST_DRIVER = 580
"""Major version of the NVIDIA driver that CUDA 13 needs, and so onnxruntime-gpu from 1.28 on."""

MIN_OPEN_FILES = 1024
LOW_DISK_BYTES = 5 << 30
MEMORY_SHARE = 0.8
"""Share of a node's memory above which the actors leave too little for decoding and for Ray's objects."""


class Nodes:
    """The nodes of the cluster that this process has joined."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._nodes = alive_nodes()
        self.sessions = Once(self._try_sessions)

    def check_nodes(self) -> Iterator[Finding]:
        """Compare the nodes with the driver, and judge the resources that Ray does not count."""
        subject = self._subject
        shares = bool(subject.out) and storage.is_local(subject.out) and joins_cluster(subject.config.ray_address)
        seen: dict[str, str | None] = dict(self._inputs())
        if not shares:
            yield from self._judge(preflight.survey(self._nodes, seen))
            return
        with storage.empty_folders_removed(str(storage.local_path(subject.out).absolute())):
            storage.local_path(subject.out).mkdir(parents=True, exist_ok=True)
            with preflight.marked(subject.out) as mark:
                found = preflight.survey(self._nodes, {**mark, **seen}, written=[subject.out])
                yield from self._judge(found)
                yield from self._check_writing(found, next(iter(mark)))

    def _inputs(self) -> dict[str, None]:
        """Return the local paths that every node must read."""
        if not joins_cluster(self._subject.config.ray_address):
            return {}
        config, items = self._subject.config, []
        with contextlib.suppress(NotCheckedError):
            items = preflight.first_items(self._subject.required_manifest())
        return preflight.local_inputs(storage.absolute(config.bundle) if config.bundle else None, items)

    def _judge(self, found: preflight.Survey) -> Iterator[Finding]:
        yield from preflight.judge_starts(found)
        yield from preflight.judge_versions(found)
        yield from preflight.judge_clocks(found)
        yield from preflight.judge_paths(found)
        for node, facts in found.facts.items():
            yield from judge_machine(node, facts)
        if self._subject.config.checkpoint and not any(facts["torch"] for facts in found.facts.values()):
            do = "install fsf[export] on one node, or export the bundle elsewhere and pass --bundle"
            yield Finding(check="export", status="fail", found="no node has torch, which --checkpoint needs", do=do)

    def _check_writing(self, found: preflight.Survey, mark: str) -> Iterator[Finding]:
        """Let every node write a file, and read it here."""
        nodes = [node for node, facts in found.facts.items() if node.works and not facts["unseen"]]
        marks = {node: Path(f"{mark}-{node.id[:8]}") for node in nodes}
        try:
            for node in nodes:
                outcome = call_on_nodes([node], write_mark, str(marks[node]), node.id, limit_s=WRITE_LIMIT_S)[node]
                yield _judge_writing(node, outcome, self._subject.out, marks[node])
        finally:
            for path in marks.values():
                path.unlink(missing_ok=True)

    def _try_sessions(self) -> dict[Node, Outcome]:
        """Open a session where actors would run.

        Raises:
            ProviderError: there is no GPU for the provider that was asked for.
        """
        config = self._subject.config
        if self._subject.config.bundle:
            self._subject.required_bundle()
        plan.require_gpu(config)
        gpus = [node for node in self._nodes if node.resources.get("GPU", 0) >= 1] if config.provider != "cpu" else []
        nodes = gpus or [node for node in self._nodes if node.works]
        return call_on_nodes(
            nodes,
            try_session_here,
            {
                "bundle_uri": storage.absolute(config.bundle) if config.bundle else None,
                "precision": config.precision,
                "provider": config.provider,
                "threads": config.threads,
                "batch_frames": config.batch_frames,
            },
            limit_s=SESSION_LIMIT_S,
            num_gpus=int(bool(gpus)),
            alone=True,
        )

    def check_sessions(self) -> Iterator[Finding]:
        """Open a session on every node where actors would run."""
        outcomes = self.sessions.get()
        asked = self._subject.config.provider
        if not outcomes:
            raise NotCheckedError("no node has a CPU or a GPU for tasks now")
        works = any(not outcome.reason for outcome in outcomes.values())
        for node, outcome in outcomes.items():
            if outcome.reason:
                status: Status = "warn" if works and asked == "auto" else "fail"
                reason = (
                    outcome.reason if "; " in outcome.reason else f"{outcome.reason}; look at the node, or remove it"
                )
                yield refusal("provider", reason, status=status, node=str(node))
            else:
                yield _judge_session(node, outcome.value, asked)

    def check_memory(self) -> Iterator[Finding]:
        """Compare the memory of the actors of a node with the node's own."""
        if not self._subject.config.bundle:
            return
        outcomes = {node: outcome.value for node, outcome in self._sessions().items() if not outcome.reason}
        facts = preflight.survey([*outcomes], {}).facts
        for node, found in outcomes.items():
            if node in facts:
                yield _judge_memory(node, found, facts[node], actors=self._actors_on(node, found["provider"]))

    def _sessions(self) -> dict[Node, Outcome]:
        try:
            return self.sessions.get()
        except FSFError as error:
            raise NotCheckedError("the provider does not work") from error

    def _actors_on(self, node: Node, provider: str) -> int:
        """Return the actors that one node may have to hold."""
        room = node.resources.get("GPU" if provider in GPU_PROVIDERS else "CPU", 1)
        return max(1, int(min(room, self._subject.config.actors or room)))


def try_session_here(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Call try_session on a worker."""
    return try_session(**arguments)


def judge_machine(node: Node, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge shared memory, disks, open files and the NVIDIA driver of a node."""
    problems = [*_machine_problems(node.resources, facts)]
    for found, do in problems:
        yield Finding(check="machine", status="warn", node=str(node), found=found, do=do)
    if not problems:
        cpus, gpus = node.resources.get("CPU", 0), node.resources.get("GPU", 0)
        free = ", ".join(f"{free / 1e9:.0f} GB free in {path}" for path, (_, free) in facts["disks"].items())
        found = (
            f"{cpus:g} CPUs, {gpus:g} GPUs, {facts['memory_bytes'] / 1e9:.1f} GB of memory, "
            f"{facts['shm'][0] / 1e9:.1f} GB of shared memory, {free}"
        )
        yield Finding(check="machine", status="ok", node=str(node), found=found)


def _machine_problems(resources: Mapping[str, float], facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is too small on a machine, and what to do about it."""
    (shm, _), store = facts["shm"], int(resources.get("object_store_memory", 0))
    if shm and shm < store:
        found = (
            f"shared memory of {shm / 1e9:.1f} GB, below Ray's {store / 1e9:.1f} GB of objects, which then use a disk"
        )
        yield found, "enlarge /dev/shm: docker run --shm-size, or an emptyDir of medium Memory in Kubernetes"
    for path, (size, free) in facts["disks"].items():
        if free < LOW_DISK_BYTES or free < size / 20:  # Ray spills no objects to a disk that is 95 % full
            found = f"{path} has {free / 1e9:.1f} of {size / 1e9:.1f} GB free"
            yield found, "free some, or start Ray with another --temp-dir: Ray spills objects there, and stops at 95 %"
    if facts["open_files"] < MIN_OPEN_FILES:
        yield f"{facts['open_files']} open files are allowed", f"raise it to {MIN_OPEN_FILES} or more: ulimit -n 65536"
    driver = facts["nvidia_driver"]
    if driver and int(driver.partition(".")[0]) < NEWEST_DRIVER:
        found = f"the NVIDIA driver is {driver}, and CUDA 13 needs {NEWEST_DRIVER} or later"
        yield found, "upgrade it, or install the last onnxruntime-gpu for CUDA 12, 1.26.0, on every node"


def _judge_writing(node: Node, outcome: Outcome, out: str, mark: Path) -> Finding:
    """Judge a file that a node wrote to the folder of the run."""
    do = "use a bucket (s3://…), or a disk that is mounted writable at the same path on every node"
    if outcome.reason:
        found = f"cannot write to {out}: {outcome.reason}"
        return Finding(check="shared files", status="fail", node=str(node), found=found, do=do)
    try:
        seen = mark.read_text() == node.id
    except OSError:
        seen = False
    if not seen:
        found = f"what it writes to {out} does not appear on the driver"
        return Finding(check="shared files", status="fail", node=str(node), found=found, do=do)
    return Finding(
        check="shared files", status="ok", node=str(node), found=f"reads and writes {out} as the driver does"
    )


def _judge_session(node: Node, found: Mapping[str, Any], asked: str) -> Finding:
    """Describe a session that runs."""
    libraries = "".join(f", {name} {version}" for name, version in found["libraries"].items())
    note = f" ({found['note']})" if asked == "auto" else ""
    shown = (
        f"{found['provider']}{note}: opened in {found['open_s']:.1f} s, {found['batch_frames']} frames in "
        f"{found['batch_s']:.2f} s{libraries}"
    )
    return Finding(check="provider", status="ok", node=str(node), found=shown)


def _judge_memory(node: Node, found: Mapping[str, Any], facts: Mapping[str, Any], *, actors: int) -> Finding:
    """Judge whether the actors of a node fit into its memory."""
    peak, total = found["peak_bytes"], facts["memory_bytes"]
    share = actors * peak / total
    shown = (
        f"{actors} actors of {peak / 1e9:.2f} GB (a batch of {found['batch_frames']} frames; images in decoding are "
        f"extra) take {share:.0%} of {total / 1e9:.1f} GB"
    )
    status: Status = "fail" if share > 1 else "warn" if share > MEMORY_SHARE else "ok"
    fitting = max(1, int(total * MEMORY_SHARE / peak))
    do = "" if status == "ok" else f"pass a smaller --batch-frames, or --actors for at most {fitting} per node"
    return Finding(check="memory", status=status, node=str(node), found=shown, do=do)
