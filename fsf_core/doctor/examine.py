"""All checks of a job, side by side, reported in order."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from fsf_core.config import DoctorConfig
from fsf_core.doctor import driver, output
from fsf_core.doctor.checks import Check
from fsf_core.doctor.model import SESSION_LIMIT_S, Model
from fsf_core.doctor.nodes import ITEMS_LIMIT_S, NETWORK_LIMIT_S, Nodes
from fsf_core.doctor.subject import Subject
from fsf_core.errors import FSFError, InterruptedRunError
from fsf_core.score.capacity import read_capacity
from fsf_core.score.cluster import connected_cluster, joins_cluster
from fsf_core.score.findings import Finding, refusal
from fsf_core.score.node_tasks import alive_nodes

STORE_LIMIT_S = 75.0
"""How long a check of a store may take: a store that does not respond is retried for 45 s."""

LIST_LIMIT_S = 300.0
"""How long the manifest may take to be read; ten million rows take a minute."""

JOIN_LIMIT_S = 120.0
REMOVAL_LIMIT_S = 10.0
"""How long the end of the command waits for a check to remove what it wrote."""

NODES_LIMIT_S = 150.0

Report = Callable[[Finding], None]


def examine(config: DoctorConfig, report: Report, abandon: Callable[[], None]) -> None:
    """Check everything that a job of these options needs, and report each finding.

    Args:
        config: options of the job; what depends on an option that is not given is not checked.
        report: called with every finding, in the order of the checks.
        abandon: ends the process; called after the last finding where Ray does not return from joining the cluster.

    Raises:
        InterruptedRunError: a signal.
    """
    subject = Subject(config)
    checks = [*_driver_checks(subject)]
    try:
        report(_scope(config))
        with contextlib.ExitStack() as stack:
            try:
                with _joining(checks, report, abandon):
                    stack.enter_context(connected_cluster(config.ray_address))
            except InterruptedRunError:
                raise
            except FSFError as error:
                _report(checks, report)
                report(refusal("cluster", str(error)))
                return
            _report(checks, report)
            report(_cluster(config))
            _report([*_node_checks(subject)], report)
    finally:
        for check in checks:
            check.end(REMOVAL_LIMIT_S)


def _driver_checks(subject: Subject) -> Iterator[Check]:
    """Start the checks of what this process sees, as far as the options name it."""
    config = subject.config
    yield Check(name="versions", call=driver.check_versions, limit_s=STORE_LIMIT_S)
    if config.bundle:
        yield Check(name="bundle", call=partial(driver.check_bundle, subject), limit_s=LIST_LIMIT_S)
    if config.checkpoint:
        yield Check(name="checkpoint", call=partial(driver.check_checkpoint, subject), limit_s=STORE_LIMIT_S)
    if config.manifest:
        yield Check(name="manifest", call=partial(driver.check_manifest, subject), limit_s=LIST_LIMIT_S)
        yield Check(name="items", call=partial(driver.check_items, subject), limit_s=LIST_LIMIT_S + STORE_LIMIT_S)
    if config.fail_if:
        yield Check(name="gates", call=partial(driver.check_gates, subject), limit_s=LIST_LIMIT_S + STORE_LIMIT_S)
    if config.against:
        yield Check(name="against", call=partial(driver.check_against, subject), limit_s=LIST_LIMIT_S + STORE_LIMIT_S)
    if config.delta:
        yield Check(name="delta", call=partial(driver.check_delta, subject), limit_s=LIST_LIMIT_S + STORE_LIMIT_S)
    if config.reuse:
        yield Check(name="reuse", call=partial(output.check_reuse, subject), limit_s=LIST_LIMIT_S + STORE_LIMIT_S)
    if config.out:
        yield Check(name="out", call=partial(output.check_out, subject), limit_s=STORE_LIMIT_S)
        yield Check(name="run", call=partial(output.check_run, subject), limit_s=LIST_LIMIT_S + STORE_LIMIT_S)


def _node_checks(subject: Subject) -> Iterator[Check]:
    """Start the checks of the nodes; all of them wait for what the nodes report about themselves."""
    nodes = Nodes(subject)
    model = Model(subject, nodes)
    yield Check(name="nodes", call=nodes.check_nodes, limit_s=NODES_LIMIT_S)
    yield Check(name="network", call=nodes.check_network, limit_s=NODES_LIMIT_S + NETWORK_LIMIT_S)
    if subject.config.manifest and joins_cluster(subject.config.ray_address):
        yield Check(name="items", call=nodes.check_items, limit_s=NODES_LIMIT_S + ITEMS_LIMIT_S)
    yield Check(name="provider", call=model.check_provider, limit_s=NODES_LIMIT_S + SESSION_LIMIT_S)
    yield Check(name="actors", call=model.check_actors, limit_s=NODES_LIMIT_S + SESSION_LIMIT_S)
    if subject.config.bundle:
        yield Check(name="memory", call=model.check_memory, limit_s=NODES_LIMIT_S + SESSION_LIMIT_S)


def _report(checks: Iterable[Check], report: Report) -> None:
    for check in checks:
        for finding in check.findings():
            report(finding)


@contextlib.contextmanager
def _joining(checks: Iterable[Check], report: Report, abandon: Callable[[], None]) -> Iterator[None]:
    """End the process with its report if the block takes too long: a call of Ray cannot be interrupted."""

    def give_up() -> None:
        _report(checks, report)
        found = f"Ray has not joined the cluster within {JOIN_LIMIT_S:.0f} s"
        do = "check that a node of it runs on this machine, and that its ports are open to this machine"
        report(Finding(check="cluster", status="fail", found=found, do=do))
        abandon()

    timer = threading.Timer(JOIN_LIMIT_S, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _scope(config: DoctorConfig) -> Finding:
    """Report which options were not given, and so what is not checked."""
    model = "--bundle" if not (config.bundle or config.checkpoint) else ""
    missing = [*filter(None, (model, "" if config.manifest else "--manifest", "" if config.out else "--out"))]
    found = (
        f"without {', '.join(missing)}: what they name is not checked" if missing else "all that a job needs are given"
    )
    return Finding(check="options", status="ok", found=found)


def _cluster(config: DoctorConfig) -> Finding:
    """Report the cluster that was joined, or started."""
    where = "joined the cluster" if joins_cluster(config.ray_address) else "a cluster was started on this machine"
    nodes = len(alive_nodes())
    capacity = read_capacity(with_autoscaler=joins_cluster(config.ray_address))
    autoscaler = f"; its autoscaler {capacity.autoscaler.describe()}" if capacity.autoscaler else ""
    found = f"{where}: {nodes} node{'s' if nodes > 1 else ''}, {capacity.describe()}{autoscaler}"
    return Finding(check="cluster", status="ok", found=found)
