"""`fsf` with every stage by itself, as it runs beside a GPU, on a machine without one."""

import sys
from dataclasses import replace
from typing import Any

from fsf_core.score import plan
from jobs import fsf


def main() -> int:
    planned = plan.flow_of

    def as_beside_a_gpu(*args: Any, **more: Any) -> Any:
        return replace(planned(*args, **more), apart=True)

    plan.flow_of = as_beside_a_gpu
    return fsf.main()


if __name__ == "__main__":
    sys.exit(main())
