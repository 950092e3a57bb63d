"""Checks of where the model would run: a session on each node, room for the actors, and their memory."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from fsf_core import storage
from fsf_core.config import parse_actors
from fsf_core.doctor.checks import NotCheckedError
from fsf_core.doctor.nodes import LOOK, Nodes
from fsf_core.doctor.subject import Once, Subject
from fsf_core.errors import FSFError
from fsf_core.score import placement
from fsf_core.score.findings import Finding, Status, refusal
from fsf_core.score.node_tasks import Node, Outcome, available_resources, call_on_nodes
from fsf_core.score.session_check import try_session
from fsf_core.score.spec import GPU_PROVIDERS, gpu_share

SESSION_LIMIT_S = 180.0
"""How long a node may take to open a session: it reads the model and starts a process."""

MEMORY_SHARE = 0.8
"""Share of a node's memory above which the actors leave too little for decoding and for Ray's objects."""


class Model:
    """The model of the job on the nodes of the cluster."""

    def __init__(self, subject: Subject, nodes: Nodes) -> None:
        self._subject = subject
        self._nodes = nodes
        self.sessions = Once(self._try_sessions)

    def check_provider(self) -> Iterator[Finding]:
        """Open a session on every node where actors would run."""
        outcomes = self.sessions.get()
        asked = placement.asked_provider(self._subject.config)
        works = any(not outcome.reason for outcome in outcomes.values())
        for node, outcome in outcomes.items():
            if outcome.reason.startswith(IN_USE):
                yield Finding(check="provider", status="warn", node=str(node), found=f"not checked: {outcome.reason}")
            elif outcome.reason:
                status: Status = "warn" if works and asked == "auto" else "fail"
                advice = "" if "; " in outcome.reason else f"; {LOOK}"
                yield refusal("provider", f"{outcome.reason}{advice}", status=status, node=str(node))
            else:
                yield _judge_session(node, outcome.value, asked)

    def _try_sessions(self) -> dict[Node, Outcome]:
        """Open a session where actors would run.

        Raises:
            ProviderError: there is no GPU for the provider that was asked for.
        """
        config = self._subject.config
        placement.require_gpu(config)
        if config.bundle:
            self._subject.required_bundle()
        usable = self._nodes.required_nodes()
        provider = placement.asked_provider(config)
        gpus = [node for node in usable if node.resources.get("GPU", 0) >= 1] if provider != "cpu" else []
        share = gpu_share(config.gpus_per_actor) if gpus else 0.0
        free = available_resources()
        tried = [node for node in gpus or usable if free.get(node.id, {}).get("GPU", 1) >= share]
        found = {node: Outcome(reason=IN_USE) for node in gpus or usable if node not in tried}
        asked = {
            "bundle_uri": storage.absolute(config.bundle) if config.bundle else None,
            "precision": config.precision,
            "provider": provider,
            "threads": config.threads,
            "batch_frames": config.batch_frames,
            "gpus": share,
        }
        return found | call_on_nodes(
            tried, try_session_here, asked, limit_s=SESSION_LIMIT_S, num_gpus=share, alone=True
        )

    def check_memory(self) -> Iterator[Finding]:
        """Compare the memory of the actors of a node with the node's own."""
        facts = self._nodes.reports.get().survey.facts
        for node, found in self._opened().items():
            actors = self._actors_on(node, found["provider"])
            yield _judge_memory(node, found, facts[node], actors=actors, tiled=self._subject.config.tile)

    def check_actors(self) -> Iterator[Finding]:
        """Judge whether the cluster has room for the actors of the job."""
        asked = placement.asked_provider(self._subject.config)
        found: Any = "cpu" if asked == "auto" else asked
        with contextlib.suppress(NotCheckedError):
            found = next((found["provider"] for found in self._opened().values()), found)
        least, most = placement.actor_limits(self._subject.config, found)
        actors = f"{least} to {most}" if most > least else str(least)
        share = self._subject.config.gpus_per_actor
        each = f", {share:g} of a GPU each" if found in GPU_PROVIDERS and share != 1 else ""
        yield Finding(check="actors", status="ok", found=f"{actors} actors on {found}{each}")

    def _opened(self) -> dict[Node, Mapping[str, Any]]:
        """Return what was found where a session could be opened.

        Raises:
            NotCheckedError: nowhere.
        """
        try:
            outcomes = self.sessions.get()
        except FSFError as error:
            raise NotCheckedError("the provider does not work") from error
        return {node: outcome.value for node, outcome in outcomes.items() if not outcome.reason}

    def _actors_on(self, node: Node, provider: str) -> int:
        """Return the actors that one node may have to hold."""
        gpus = gpu_share(self._subject.config.gpus_per_actor) if provider in GPU_PROVIDERS else 0.0
        room = node.resources.get("GPU", 1) * int(1 / gpus + 1e-6) if gpus else node.resources.get("CPU", 1)
        given = parse_actors(self._subject.config.actors)
        return max(1, int(min(room, given[1] if given else room)))


IN_USE = "its GPUs are in use by other jobs"


def try_session_here(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Call try_session on a worker."""
    return try_session(**arguments)


def _judge_session(node: Node, found: Mapping[str, Any], asked: str) -> Finding:
    """Describe a session that runs."""
    libraries = "".join(f", {name} {version}" for name, version in found["libraries"].items())
    note = f" ({found['note']})" if asked == "auto" else ""
    shown = (
        f"{found['provider']}{note}: opened in {found['open_s']:.1f} s, {found['batch_frames']} frames in "
        f"{found['batch_s']:.2f} s{', ' * bool(found['card'])}{found['card']}{libraries}"
    )
    return Finding(check="provider", status="ok", node=str(node), found=shown)


def _judge_memory(
    node: Node, found: Mapping[str, Any], facts: Mapping[str, Any], *, actors: int, tiled: bool
) -> Finding:
    """Judge whether the actors of a node fit into its memory."""
    peak, total = found["peak_bytes"], facts["memory_bytes"]
    share = actors * peak / total
    extra = "the picture that each reads and its mask" if tiled else "images in decoding"
    shown = (
        f"{actors} actors of {peak / 1e9:.2f} GB (a batch of {found['batch_frames']} frames; {extra} are extra) take "
        f"{share:.0%} of {total / 1e9:.1f} GB"
    )
    status: Status = "fail" if share > 1 else "warn" if share > MEMORY_SHARE else "ok"
    fitting = max(1, int(total * MEMORY_SHARE / peak))
    do = "" if status == "ok" else f"pass a smaller --batch-frames, or --actors for at most {fitting} per node"
    return Finding(check="memory", status=status, node=str(node), found=shown, do=do)
