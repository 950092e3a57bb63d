"""Report every change of a file below some folders, and stop the process before, within or after a chosen one.

Python imports this file at the start of every process that has its folder on PYTHONPATH and CRASH_DIR in its
environment: the driver of a job and all workers of its Ray. It knows no module of the product.

A change is a line of text, with paths relative to the folder that is watched:

    mkdir PATH · rmdir PATH · create PATH · write PATH · remove PATH · link PATH
    rename PATH -> PATH       a path outside all folders is written as `outside`
    put PATH · delete PATH · copy PATH -> PATH · complete PATH    requests to an S3 store through s3fs
    delta PATH                a call of deltalake.write_deltalake, whatever the path

Positions: `before` and `after`, and for `write` (one call on a file opened as "wb") `half`: half of the bytes are
written. Calls that change nothing, like removing a missing file, are not reported.

CRASH_DIR/settings.json, read at the start of a process, has the keys of `Settings`. CRASH_DIR/changes gets a line per
change of any process, in the order in which they begin. The process that gets to the chosen change writes
CRASH_DIR/reached, and waits for CRASH_DIR/go or, frozen, for SIGCONT.
"""

import builtins
import fcntl
import functools
import io
import json
import os
import re
import signal
import sys
import time
from importlib.machinery import PathFinder

POSITIONS = ("before", "half", "after")
_REQUESTS = {
    "put_object": "put",
    "delete_object": "delete",
    "delete_objects": "delete",
    "copy_object": "copy",
    "complete_multipart_upload": "complete",
}
_open, _os_open, _rename = io.open, os.open, os.replace


class Settings:
    """What to watch, and where to stop."""

    def __init__(self, *, roots, pattern=None, number=1, when="before", freeze=False, slow_s=0.0):
        """Take the keys of settings.json.

        Args:
            roots: absolute folders, or s3:// prefixes, whose changes are reported.
            pattern: regular expression, searched in the change; None stops nowhere.
            number: which match, from 1, counted over all processes.
            when: one of POSITIONS.
            freeze: send SIGSTOP to the own process, all its threads, instead of waiting for the file `go`.
            slow_s: seconds to sleep before every change, so that a reader sees the steps.
        """
        self.roots = [root.rstrip("/") for root in roots]
        self.pattern = re.compile(pattern) if pattern else None
        self.number, self.when, self.freeze, self.slow_s = number, when, freeze, slow_s

    def relative(self, path):
        """Return a path below one of the roots relative to it; None for any other."""
        for root in self.roots:
            if path == root:
                return "."
            if path.startswith(root + "/"):
                return path[len(root) + 1 :]
        return None


class Watch:
    """The changes of all processes that share a folder, and the stop at one of them."""

    def __init__(self, folder, settings):
        self.folder, self.settings = folder, settings
        self._matches, self._offset = 0, 0

    def begin(self, change):
        """Report a change; return whether the process has to stop at it."""
        if self.settings.slow_s:
            time.sleep(self.settings.slow_s)
        line = f"{os.getpid()} {change}\n".encode()
        descriptor = _os_open(os.path.join(self.folder, "changes"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            self._count(os.pread(descriptor, size - self._offset, self._offset).decode().splitlines())
            due = self._count([line.decode()]) and self._matches == self.settings.number
            self._offset = size + os.pwrite(descriptor, line, size)
        finally:
            os.close(descriptor)
        return due

    def _count(self, lines):
        pattern = self.settings.pattern
        found = sum(1 for line in lines if pattern and pattern.search(line.partition(" ")[2].strip()))
        self._matches += found
        return found

    def stop(self, change):
        """Report that the chosen change is reached, and wait."""
        draft = os.path.join(self.folder, f"reached.{os.getpid()}")
        with _open(draft, "w") as file:
            file.write(f"{os.getpid()} {change}")
        _rename(draft, os.path.join(self.folder, "reached"))
        if self.settings.freeze:
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        while not os.path.exists(os.path.join(self.folder, "go")):
            time.sleep(0.01)


class _Files:
    """The calls of Python that change files, replaced by ones that report to a watch."""

    def __init__(self, watch):
        self.watch = watch

    def path(self, path, dir_fd=None):
        """Return a path argument of a call relative to the watched folders; None if it is outside."""
        if isinstance(path, int):
            return None
        name = os.fsdecode(path)
        if dir_fd is not None and not os.path.isabs(name):
            name = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), name)
        return self.watch.settings.relative(os.path.abspath(name))

    def around(self, change, call):
        """Make a change, and stop before or after it if it is the chosen one."""
        due = self.watch.begin(change)
        when = self.watch.settings.when
        if due and when == "before":
            self.watch.stop(change)
        result = call()
        if due and when == "after":
            self.watch.stop(change)
        return result

    def one_path(self, verb, function, *, made):
        """Wrap a function of one path that makes it, or that removes it."""

        @functools.wraps(function)
        def call(path, *rest, dir_fd=None, **options):
            def original():
                return function(path, *rest, **options, **({} if dir_fd is None else {"dir_fd": dir_fd}))

            relative = self.path(path, dir_fd)
            if relative is None or not (_can_exist(path, dir_fd) if made else _exists(path, dir_fd)):
                return original()
            return self.around(f"{verb} {relative}", original)

        return call

    def two_paths(self, verb, function):
        """Wrap a function that gives a file a name."""

        @functools.wraps(function)
        def call(source, target, *rest, src_dir_fd=None, dst_dir_fd=None, **options):
            fds = {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd}

            def original():
                return function(source, target, *rest, **options, **{k: fd for k, fd in fds.items() if fd is not None})

            paths = self.path(source, src_dir_fd), self.path(target, dst_dir_fd)
            if paths == (None, None) or not (_exists(source, src_dir_fd) or verb == "link"):
                return original()
            return self.around(f"{verb} {paths[0] or 'outside'} -> {paths[1] or 'outside'}", original)

        return call

    def os_open(self, function):
        """Wrap os.open."""

        @functools.wraps(function)
        def call(path, flags, mode=0o777, *, dir_fd=None):
            def original():
                return function(path, flags, mode, dir_fd=dir_fd)

            relative = self.path(path, dir_fd)
            creates = flags & os.O_CREAT and _can_exist(path, dir_fd)
            if relative is None or not (creates or flags & os.O_TRUNC):
                return original()
            return self.around(f"create {relative}", original)

        return call

    def io_open(self, function):
        """Wrap open; what opens a file as "wb" gets a file that can stop in the middle of a write."""

        @functools.wraps(function)
        def call(file, mode="r", buffering=-1, *rest, **options):
            def original():
                return function(file, mode, buffering, *rest, **options)

            relative = None if options.get("opener") else self.path(file)  # an opener opens another path
            if relative is None or not {*mode} & {"w", "x", "a"}:
                return original()
            if not _can_exist(file) and not ("w" in mode and _exists(file)):
                return original()
            if mode in ("wb", "xb") and buffering == -1 and not any((*rest, *options.values())):
                return self.around(f"create {relative}", lambda: _Writer(self, relative, io.FileIO(file, mode)))
            return self.around(f"create {relative}", original)

        return call


class _Writer(io.BufferedWriter):
    """A file opened as "wb" whose writes can be stopped in the middle."""

    def __init__(self, files, relative, raw):
        super().__init__(raw)
        self._files, self._relative = files, relative

    def write(self, data):
        """Write; at the chosen change half of the bytes, and the rest once the process goes on."""
        watch = self._files.watch
        if not watch.begin(f"write {self._relative}") or watch.settings.when != "half":
            return super().write(data)
        view = memoryview(data).cast("B")
        super().write(view[: len(view) // 2])
        self.flush()
        watch.stop(f"write {self._relative}")
        return len(view) // 2 + super().write(view[len(view) // 2 :])


def _can_exist(path, dir_fd=None):
    """Return whether a call may give a new file this name."""
    folder = os.path.dirname(os.fsdecode(path)) or "."
    return not _exists(path, dir_fd) and _exists(folder, dir_fd)


def _exists(path, dir_fd=None):
    try:
        os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def install(watch):
    """Replace the functions that change files for the rest of this process."""
    files = _Files(watch)
    wrapped = {
        "mkdir": files.one_path("mkdir", os.mkdir, made=True),
        "rmdir": files.one_path("rmdir", os.rmdir, made=False),
        **{name: files.one_path("remove", getattr(os, name), made=False) for name in ("remove", "unlink")},
        **{name: files.two_paths("rename", getattr(os, name)) for name in ("rename", "replace")},
        **{name: files.two_paths("link", getattr(os, name)) for name in ("link", "symlink")},
        "open": files.os_open(os.open),
    }
    abilities = (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks)
    for name, replacement in wrapped.items():
        for ability in abilities:  # otherwise shutil.rmtree takes another way than without this hook
            if getattr(os, name) in ability:
                ability.add(replacement)
        setattr(os, name, replacement)
    io.open = builtins.open = files.io_open(io.open)
    finder = _Finder(files)
    sys.meta_path.insert(0, finder)
    for name, patch in finder.patches.items():  # a forked process may have imported them
        if name in sys.modules:
            patch(sys.modules[name])


class _Finder:
    """An import hook that patches s3fs and deltalake after their normal import."""

    def __init__(self, files):
        self.patches = {
            "s3fs.core": functools.partial(_watch_s3, files),
            "deltalake": functools.partial(_watch_delta, files),
        }

    def find_spec(self, name, path=None, target=None):
        """Return the module's own spec, whose execution ends with the patch."""
        if name not in self.patches:
            return None
        spec = PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.patches[name](module)

        spec.loader.exec_module = exec_module
        return spec


def _watch_s3(files, module):
    """Report the requests of s3fs that change an object."""
    original = module.S3FileSystem._call_s3
    settings = files.watch.settings

    @functools.wraps(original)
    async def _call_s3(self, method, *settings_of_call, **options):
        verb, key = _REQUESTS.get(method), options.get("Key")
        if key is None and "Delete" in options:
            key = options["Delete"]["Objects"][0]["Key"]
        relative = settings.relative(f"s3://{options.get('Bucket')}/{key}") if verb else None
        if relative is None:
            return await original(self, method, *settings_of_call, **options)
        change = f"{verb} {relative}"
        if verb == "copy":
            source = "s3://{Bucket}/{Key}".format(**options["CopySource"])
            change = f"copy {settings.relative(source) or 'outside'} -> {relative}"
        due = files.watch.begin(change)
        if due and settings.when == "before":
            files.watch.stop(change)
        result = await original(self, method, *settings_of_call, **options)
        if due and settings.when == "after":
            files.watch.stop(change)
        return result

    module.S3FileSystem._call_s3 = _call_s3


def _watch_delta(files, module):
    """Report calls of write_deltalake: the library itself changes files outside Python."""
    original = module.write_deltalake

    @functools.wraps(original)
    def write_deltalake(table, *rest, **options):
        name = str(table).rstrip("/").rpartition("/")[2]
        return files.around(f"delta {name}", lambda: original(table, *rest, **options))

    module.write_deltalake = write_deltalake


def install_from(folder):
    """Install the hook with the settings of a folder."""
    with _open(os.path.join(folder, "settings.json")) as file:
        install(Watch(folder, Settings(**json.load(file))))


if __name__ == "sitecustomize" and "CRASH_DIR" in os.environ:
    install_from(os.environ["CRASH_DIR"])
