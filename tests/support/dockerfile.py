"""Dockerfiles without a container engine: read their instructions, and execute them one by one in a root of your own.

`python -m tests.support.dockerfile build ROOT` executes the RUN, COPY, ENV, ARG, WORKDIR and USER instructions of
cluster/image/Dockerfile in the folder ROOT, which holds what FROM names; each RUN in namespaces of its own, as root.
`python -m tests.support.dockerfile run ROOT -- COMMAND` runs a command in the result as a container would. Knows the
instructions that this project uses, and refuses others.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from docker.utils.build import exclude_paths

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "cluster" / "image" / "Dockerfile"

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEVICES = "null", "zero", "full", "random", "urandom", "tty", "fuse"


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    name: str
    flags: tuple[str, ...]
    """Options before the value, such as --mount=type=cache,…"""
    value: str


@dataclass(kw_only=True)
class Image:
    """What the instructions left behind beside files: the configuration of containers."""

    args: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    workdir: str = "/"
    user: str = "0"
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    base: str = ""


def parse(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile, without comments, which may also be between continued lines."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = []
    for line in re.sub(r"[ \t]*\\\n[ \t]*", " ", lines).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        flags = []
        while match := re.match(r"(--[\w-]+=\S+)\s+", rest.lstrip()):
            flags.append(match[1])
            rest = rest.lstrip()[match.end() :]
        found.append(Instruction(name=name.upper(), flags=tuple(flags), value=rest.strip()))
    return found


def configure(image: Image, instruction: Instruction, build_args: dict[str, str]) -> None:  # noqa: C901 # a table
    """Apply an instruction that changes the configuration alone."""
    value = instruction.value if instruction.name in ("CMD", "ENTRYPOINT") else substitute(instruction.value, image)
    match instruction.name:
        case "FROM":
            image.base = value
            image.args = {}
        case "ARG":
            name, has_default, default = value.partition("=")
            if name in build_args or has_default:
                image.args[name] = build_args.get(name, default)
        case "ENV":
            image.env |= pairs(value)
        case "LABEL":
            image.labels |= pairs(value)
        case "WORKDIR":
            image.workdir = str(PurePosixPath(image.workdir) / value)
        case "USER":
            image.user = value
        case "ENTRYPOINT":
            image.entrypoint, image.cmd = json.loads(value), []
        case "CMD":
            image.cmd = json.loads(value)
        case "EXPOSE" | "HEALTHCHECK":
            pass
        case _:
            raise ValueError(f"{instruction.name} is not supported")


def substitute(text: str, image: Image) -> str:
    """Replace $NAME and ${NAME} by the value of an ARG or ENV, or by nothing."""
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda name: {**image.args, **image.env}.get(name[1] or name[2], ""), text)


def pairs(text: str) -> dict[str, str]:
    """Return the pairs of an ENV or LABEL: NAME=value NAME="a value"."""
    return dict(word.split("=", 1) for word in shlex.split(text))


def context_files(context: Path) -> set[str]:
    """Return the files that enter the build context, by the matcher of Docker's own client."""
    patterns = [
        line.strip() for line in (context / ".dockerignore").read_text().splitlines() if line and line[0] != "#"
    ]
    found = {path for path in exclude_paths(str(context), patterns) if (context / path).is_file()}
    return found - {".dockerignore"}  # the client needs it itself


def copies(instruction: Instruction, files: set[str]) -> list[tuple[str, str]]:
    """Return what a COPY copies, as pairs of a file in the context and a path below its destination.

    Raises:
        FileNotFoundError: a source is missing or ignored.
    """
    *sources, _ = instruction.value.split()
    found = []
    for source in sources:
        inside = [(name, name.removeprefix(source).lstrip("/")) for name in files if name.startswith(f"{source}/")]
        if source in files:
            inside = [(source, PurePosixPath(source).name)]
        if not inside:
            raise FileNotFoundError(f"COPY {source}: it is not in the build context")
        found += inside
    return found


def copy(image: Image, instruction: Instruction, context: Path, files: set[str], root: Path) -> None:
    """Execute a COPY; files belong to root, as in an engine."""
    target = root / str(PurePosixPath(image.workdir) / instruction.value.split()[-1]).lstrip("/")
    for source, below in sorted(copies(instruction, files)):
        (target / below).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(context / source, target / below)


def enter(
    root: Path,
    image: Image,
    command: list[str],
    *,
    binds: list[tuple[str, str]] = (),  # type: ignore[assignment]
    environment: dict[str, str] | None = None,
    read_only: bool = False,
    network: bool = True,
) -> int:
    """Run a command in the root with the image's configuration and return its exit code.

    It has mount, PID and IPC namespaces of its own, an empty /dev/shm and, where the root is read-only, an empty /tmp.
    """
    script = [
        "set -e",
        f"cd {root}",
        "mount --bind . .",
        f"cd {root}",
        *_mount_points(root, binds, read_only=read_only),
        *([] if network else ["ip link set lo up"]),
    ]
    words = ["env", "-i", *[f"{name}={value}" for name, value in {**image.env, **(environment or {})}.items()]]
    inside = shlex.join(["sh", "-c", f'cd {shlex.quote(image.workdir)} && exec "$@"', "sh", *command])
    user = image.user if ":" in image.user else f"{image.user}:{image.user}"
    script.append(f"exec chroot --userspec={user} --groups='' {root} {shlex.join(words)} {inside}")
    namespaces = ["--mount", "--pid", "--ipc", "--fork", "--kill-child"] + ([] if network else ["--net"])
    return subprocess.run(["unshare", *namespaces, "sh", "-c", "\n".join(script)], check=False).returncode


def _mount_points(root: Path, binds: list[tuple[str, str]], *, read_only: bool) -> list[str]:
    """Return the shell lines that mount what an engine mounts; empty mount points stay behind in the root."""
    lines = ["mount -t proc proc proc", "mount -t tmpfs -o mode=755 dev dev", "mkdir dev/shm dev/pts"]
    lines += [
        f"touch dev/{name} && mount --bind /dev/{name} dev/{name}" for name in _DEVICES if Path(f"/dev/{name}").exists()
    ]
    lines += ["ln -s /proc/self/fd dev/fd", "mount -t tmpfs -o mode=1777 shm dev/shm"]
    for source, target in [("/etc/resolv.conf", "/etc/resolv.conf"), ("/etc/hosts", "/etc/hosts"), *binds]:
        point = root / target.lstrip("/")
        if Path(source).is_dir():
            point.mkdir(parents=True, exist_ok=True)
        else:
            point.parent.mkdir(parents=True, exist_ok=True)
            point.touch()
        lines.append(f"mount --bind {shlex.quote(source)} {shlex.quote(target.lstrip('/'))}")
    if read_only:
        lines += ["mount -o remount,ro,bind .", "mount -t tmpfs -o mode=1777 tmp tmp"]
    return lines


def build(
    root: Path,
    text: str,
    context: Path,
    *,
    build_args: dict[str, str],
    secrets: dict[str, str],
    binds: list[tuple[str, str]],
) -> Image:
    """Execute every instruction in the root; FROM is what the root already holds.

    Raises:
        subprocess.CalledProcessError: a RUN failed.
    """
    image, files = Image(), context_files(context)
    for instruction in parse(text):
        sys.stderr.write(f"=> {instruction.name} {instruction.value[:150]}\n")
        if instruction.name == "COPY":
            copy(image, instruction, context, files, root)
        elif instruction.name == "RUN":
            mounts = binds + [mount for flag in instruction.flags if (mount := _secret(flag, secrets))]
            code = enter(root, image, ["sh", "-c", instruction.value], binds=mounts, environment=image.args)
            if code:
                raise subprocess.CalledProcessError(code, instruction.value)
        else:
            configure(image, instruction, build_args)
            if instruction.name == "WORKDIR":
                (root / image.workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)
    return image


def _secret(flag: str, secrets: dict[str, str]) -> tuple[str, str] | None:
    """Return the bind mount of a --mount=type=secret that was given; caches are not kept."""
    options = dict(option.partition("=")[::2] for option in flag.removeprefix("--mount=").split(","))
    if options["type"] == "secret" and options["id"] in secrets:
        return secrets[options["id"]], options["target"]
    return None


def main(arguments: list[str]) -> int:
    """Build or run; the configuration of an image is kept beside its root, as ROOT.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("action", choices=["build", "run"])
    parser.add_argument("root", type=lambda path: Path(path).resolve())
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--secret", action="append", default=[], metavar="ID=FILE")
    parser.add_argument("--bind", action="append", default=[], metavar="SOURCE[:TARGET]")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--user", help="another user than the image's: UID or UID:GID")
    parser.add_argument("--read-only", action="store_true", help="as readOnlyRootFilesystem")
    parser.add_argument("--no-network", action="store_true", help="nothing but a loopback interface of its own")
    parser.add_argument("--no-entrypoint", action="store_true")
    parser.add_argument("command", nargs="*")
    options = parser.parse_intermixed_args(arguments)
    binds = [(bind.partition(":")[0], bind.partition(":")[2] or bind) for bind in options.bind]
    kept = options.root.with_name(f"{options.root.name}.json")
    if options.action == "build":
        image = build(
            options.root, DOCKERFILE.read_text(), ROOT, binds=binds,
            build_args=dict(pair.split("=", 1) for pair in options.build_arg),
            secrets=dict(pair.split("=", 1) for pair in options.secret),
        )  # fmt: skip
        kept.write_text(json.dumps(vars(image), indent=1))
        return 0
    image = Image(**json.loads(kept.read_text()))
    image.user = options.user or image.user
    command = ([] if options.no_entrypoint else image.entrypoint) + (options.command or image.cmd)
    environment = dict(pair.split("=", 1) for pair in options.env)
    return enter(
        options.root, image, command, binds=binds, environment=environment, read_only=options.read_only,
        network=not options.no_network,
    )  # fmt: skip


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
