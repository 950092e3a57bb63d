"""`fsf doctor`: one line per check, then all of them as JSON.

Exit codes: 0 the job could run, perhaps with warnings · 2 it could not.
"""

import os
import sys

from fsf_core.config import DoctorConfig


def run(config: DoctorConfig) -> int:
    """Examine the job and print what was found; returns the exit code."""
    from fsf_core.cli.app import EXIT_USAGE
    from fsf_core.cli.output import print_json, show
    from fsf_core.doctor import examine
    from fsf_core.score.findings import Finding

    findings: list[Finding] = []

    def report(finding: Finding) -> None:
        findings.append(finding)
        show(str(finding))

    def finish() -> int:
        counts = {status: sum(finding.status == status for finding in findings) for status in ("ok", "warn", "fail")}
        could_run = not counts["fail"]
        print_json({"could_run": could_run, **counts, "checks": [finding.to_json() for finding in findings]})
        return 0 if could_run else EXIT_USAGE

    def abandon() -> None:
        code = finish()
        sys.stdout.flush()
        os._exit(code)  # the main thread is in a call of Ray that does not return

    examine(config, report, abandon)
    return finish()
