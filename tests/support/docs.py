"""The generated parts of the READMEs: `python -m tests.support.docs` writes them, and a test compares.

A part is the text between `<!-- name: begin -->` and `<!-- name: end -->`.
"""

import ast
import dataclasses
import inspect
import itertools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from cyclopts.argument import Argument

from fsf_core import config, schema
from fsf_core.cli.app import app
from fsf_core.score import gate_names
from tests.bench.gpu import table as gpu_table
from tests.support import monitoring, speed_chart

ROOT = Path(__file__).parents[2]
COMMANDS = (
    ("export", config.ExportConfig),
    ("inspect-model", config.InspectModelConfig),
    ("score", config.ScoreConfig),
    ("inspect", config.InspectConfig),
    ("evaluate", config.EvaluateConfig),
    ("select", config.SelectConfig),
    ("render", config.RenderConfig),
    ("publish", config.PublishConfig),
    ("report", config.ReportConfig),
    ("diff", config.DiffConfig),
    ("trend", config.TrendConfig),
    ("submit", config.SubmitConfig),
    ("bench", config.BenchConfig),
)
BENCHES = (
    "bench",
    "bench_graph",
    "stage_steps",
    "bench_masks",
    "bench_video",
    "bench_tiles",
    "bench_scaling",
    "scale_model",
    "bench_manifest",
    "bench_ledger",
    "bench_end",
    "bench_requests",
    "bench_report",
    "bench_select",
    "bench_gpu",
    "feeding",
    "chaos",
    "compare_versions",
)


def tables() -> str:
    """Return every column of every table, from the schemas."""
    lines = []
    for name, table in {**schema.PART_TABLES, **schema.DERIVED}.items():
        lines += [f"### `{name}/`", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [_column(field) for field in table]
        lines.append("")
    return "\n".join(lines).rstrip()


def _column(field: pa.Field) -> str:
    metadata = {key.decode(): value.decode() for key, value in field.metadata.items()}
    kind = "struct{bytes, path}" if pa.types.is_struct(field.type) else str(field.type)
    return f"| `{field.name}` | {kind} | {metadata.get('unit', '')} | {metadata['description']} |"


def options() -> str:
    """Return every option of every command, as the command line knows them."""
    lines = []
    for command, record in COMMANDS:
        lines += [f"### `fsf {command}`", "", "| option | default | meaning |", "|---|---|---|"]
        meanings = field_docstrings(record)
        for argument in app[command].assemble_argument_collection():
            if argument.show and argument.name.startswith("--"):
                meaning = meanings[argument.field_info.name].replace("|", r"\|")
                lines.append(f"| `{argument.name}` | {_default(argument)} | {meaning} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _default(argument: Argument) -> str:
    if argument.required:
        return "required"
    default = argument.field_info.default
    if default in (None, ()):
        return ""
    return f"`{','.join(default) if isinstance(default, tuple) else default}`".lower()


def field_docstrings(record: type) -> dict[str, str]:
    """Return the string below every field of a dataclass and of its bases; it is also the help of the option."""
    found: dict[str, str] = {}
    for base in reversed([base for base in record.__mro__ if dataclasses.is_dataclass(base)]):
        [definition] = ast.parse(inspect.getsource(base)).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in itertools.pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def gates() -> str:
    """Return every name that a gate may use."""
    lines = ["| name | figure | needs |", "|---|---|---|"]
    for figure in gate_names.FIGURES:
        needs = gate_names.NEEDS[figure.needs] if figure.needs else ""
        lines.append(f"| `{figure.shown()}` | {figure.meaning} | {needs} |")
    return "\n".join(lines)


def zoo() -> str:
    """Return the models of the zoo with what was measured of them."""
    document = json.loads((ROOT / "tests" / "support" / "zoo" / "measured.json").read_text())
    lines = [
        "| model | family | input | output | parity | equal | ms a frame | command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in document["models"].items():
        shares = " | ".join(f"{100 * row[key]:.4g} %" for key in ("parity", "equal"))
        facts = f"{row['input']} | {row['output']} | {shares} | {row['frame_ms']}"
        lines.append(f"| {name} | {row['family']} | {facts} | `{row['command']}` |")
    return "\n".join([*lines, "", f"Time of the network alone: {document['machine']}."])


def benches() -> str:
    """Return the command and the subject of every bench, from the docstrings of the modules."""
    lines = ["| command | measures |", "|---|---|"]
    for name in BENCHES:
        module = ast.parse((ROOT / "tests" / "bench" / f"{name}.py").read_text())
        subject = " ".join((ast.get_docstring(module) or "").split("\n\n")[0].split())
        lines.append(f"| `python -m tests.bench.{name}` | {subject} |")
    return "\n".join(lines)


def speed() -> str:
    """Return the table of tests/bench/figures.json: the rates on both machines."""
    figures = speed_chart.read_figures()
    cases, machines = figures["cases"], figures["machines"]
    rates = figures["frames_per_s"]
    lines = [
        f"{figures['unit'].capitalize()} (`{figures['command']}`; "
        + "; ".join(f"{name}: {machine['cpu']}, {machine['date']}" for name, machine in machines.items())
        + "):",
        "",
        f"| {' / '.join(machines)} | {' | '.join(cases.values())} |",
        "|---" * (1 + len(cases)) + "|",
    ]
    for contender, title in figures["contenders"].items():
        cells = [" / ".join(f"{rates[machine][case][contender]}" for machine in machines) for case in cases]
        lines.append(f"| {title} | {' | '.join(cells)} |")
        if contender == "fsf":
            shares = [[rates[machine][case] for machine in machines] for case in cases]
            cells = [" / ".join(f"{rate['fsf'] / rate['bare']:.2f}" for rate in case) for case in shares]
            lines.append(f"| fsf, as a share of the bare session | {' | '.join(cells)} |")
    return "\n".join(lines)


def gpu() -> str:
    """Return the tables of tests/bench/gpu.json, the results.json of `python -m tests.bench.bench_gpu` on a card."""
    path = ROOT / "tests" / "bench" / "gpu.json"
    return gpu_table.render(json.loads(path.read_text())) if path.exists() else "No GPU was measured yet."


PARTS: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "jobs" / "README.md": {"options": options, "gates": gates},
    ROOT / "fsf_core" / "export" / "families" / "README.md": {"zoo": zoo},
    ROOT / "fsf_core" / "runs" / "README.md": {"tables": tables},
    ROOT / "tests" / "bench" / "README.md": {"benches": benches, "speed": speed, "gpu": gpu},
    ROOT / "cluster" / "monitoring" / "README.md": {"metrics": monitoring.metric_rows, "alerts": monitoring.alert_rows},
}


def rendered(path: Path) -> str:
    """Return a README with its generated parts as they should be."""
    text = path.read_text()
    for name, content in PARTS[path].items():
        pattern = rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)"
        text, count = re.subn(pattern, rf"\1\n{_escaped(content())}\n\n\2", text, flags=re.DOTALL)
        assert count == 1, f"{path} has {count} parts {name!r}, expected one"
    return text


def _escaped(content: str) -> str:
    return content.replace("\\", r"\\")


if __name__ == "__main__":
    for readme in PARTS:
        readme.write_text(rendered(readme))
        sys.stdout.write(f"wrote {readme.relative_to(ROOT)}\n")
    (monitoring.FOLDER / "prometheusrule.yaml").write_text(monitoring.prometheus_rule())
