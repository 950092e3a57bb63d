"""`fsf` with every stage by itself, as it runs beside a GPU, on a machine without one."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fsf_core.cli import app
from fsf_core.score import plan
from fsf_core.score.spec import Flow


def as_beside_a_gpu(planned: Callable[..., Flow]) -> Callable[..., Flow]:
    """`plan.flow_of`, but for the stages apart."""
    return lambda *args, **more: replace(planned(*args, **more), apart=True)


def main() -> int:
    flow_of: Any = as_beside_a_gpu(plan.flow_of)
    plan.flow_of = flow_of
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
