"""Forks into kernels, with everything imported already that they need: ``python template.py FD [MODULE ...]``.

FD is a Unix ``SOCK_SEQPACKET`` socket to the broker, with a JSON object in each packet::

    template: {"ready": PID, "failed": {MODULE: REASON}}     or {"error": REASON}, and it ends
    broker:   {"fork": ID}                                   with descriptors: request, stdin, stdout, stderr
    template: {"id": ID, "pid": PID}                         or {"id": ID, "error": REASON}, {"id": ID, "stale": true}
    template: {"exited": PID, "status": N}                   the exit code, or minus a signal's number
    broker:   {"reap": PID}                                  until then, that number is nobody else's

A request is a file with ``{"argv": [LAUNCH_PY, ...], "env": {...}, "cwd": DIRECTORY}``, of any size. The child is a
session leader, and ready but for ``main``, when its answer is sent, and begins only then: of a child whose answer did
not get out, nothing has run. When the socket ends, the template does; its children live on.

A child is as ``python launch.py`` would have started it, except that all children of one template share

- the hash seed, so the order of sets of strings, and the addresses of what was loaded before the fork;
- what imported modules made of the environment, the time and the machine when they were imported. The broker has a
  template for each set of variables that are known to be read so early;
- what the modules named on the command line hold: their caches, and the state of random generators other than those of
  ``random`` and ``numpy.random``. Descriptors that they hold are closed, and a thread is not allowed to them;
- the objects of all these modules, which are frozen: the garbage collector, and ``gc.get_objects``, do not see them. A
  collection that did would copy their pages (measured: 10 MiB a kernel, and 16 ms each time).

``/proc/PID/cmdline`` is the template's, and so is ``/proc/PID/environ`` but for :data:`MARK`.
"""

import contextlib
import gc
import importlib
import io
import itertools
import json
import logging
import os
import selectors
import signal
import socket
import sys
import threading
import time
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
MARK = "JUPYTER_BROKER_KERNEL_ID"
"""The variable by which a kernel's processes are found. The template has one that is as long, and the last of all."""
LATER = (
    "IPython.core.completerlib",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "encodings.idna",
    "ipykernel.debugger",
    "tornado.gen",
    "tornado.locks",
    "tornado.platform.asyncio",
    "tornado.queues",
)
"""What every kernel imports only when it has begun."""
INLINE = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
GO = b"+"


def main() -> None:
    restore_signals = remember_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=int(sys.argv[1]))
    # Before the imports: what changes meanwhile may be in them or not.
    before = stamps(sys.path)
    try:
        run, failed = load(sys.argv[2:])
    except BaseException as error:
        say(sock, error=describe(error))
        os._exit(1)
    gc.collect()
    gc.freeze()
    say(sock, ready=os.getpid(), failed=failed)
    path = watched()
    before = {name: before.get(name) for name in stamps(path)}
    run(Template(sock, restore_signals, lambda: stamps(path) != before).serve())


def load(modules):
    """Import the kernel, as launch.py does, and ``modules``. Returns its ``main``, and which of them failed and why."""
    sys.path[0] = HERE
    from ipykernel import version_info
    from launch import OLDEST

    if tuple(version_info[:2]) < OLDEST:
        raise ImportError(f"ipykernel {'.'.join(map(str, version_info[:3]))} is too old")
    from broker_kernel.app import main as run

    sys.path.remove(HERE)
    del sys.modules["launch"]
    for module in LATER:
        # Where one is missing, or named otherwise, the kernel knows what to do.
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    # matplotlib reads it when it is imported, and the kernel sets it before.
    borrowed = {name: value for name, value in INLINE.items() if name not in os.environ}
    os.environ.update(borrowed)
    failed = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException as error:
            failed[module] = describe(error)
    for name in borrowed:
        os.environ.pop(name, None)
    if threading.active_count() > 1:
        raise RuntimeError(f"a module runs threads, which a fork would lose: {threading.enumerate()[1:]}")
    return run, failed


def remember_signals():
    """Returns what restores the dispositions and the mask of now: those of a fresh interpreter."""
    dispositions = {number: signal.getsignal(number) for number in signal.valid_signals()}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])

    def restore():
        for number, disposition in dispositions.items():
            if disposition is not None and signal.getsignal(number) != disposition:
                signal.signal(number, disposition)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return restore


def changes_of_environment():
    """What Python (PEP 538) and modules have made of variables since the start: each one's value before and after."""
    with open("/proc/self/environ", "rb") as file:
        given = dict(entry.split("=", 1) for entry in os.fsdecode(file.read()).split("\0") if "=" in entry)
    return {name: (given.get(name), now) for name, now in os.environ.items() if given.get(name) != now}


def watched():
    """Directories of ``sys.path`` where a change makes a template old: those of its modules, and of .pth files."""
    files = [
        (module.__file__, hasattr(module, "__path__"))
        for name, module in list(sys.modules.items())
        if "." not in name and getattr(module, "__file__", None)
    ]
    used = {os.path.dirname(os.path.dirname(file) if is_package else file) for file, is_package in files}
    return [entry for entry in sys.path if entry in used or entry.endswith(("site-packages", "dist-packages"))]


def stamps(path):
    """When the code last changed: ours, and what is installed in the directories of ``path``."""

    def fail(error):
        raise error

    walk = os.walk(HERE, onerror=fail)
    ours = [os.path.join(folder, name) for folder, _, names in walk for name in names if name.endswith(".py")]
    found = {}
    for name in [entry for entry in path if entry != HERE] + ours:
        with contextlib.suppress(OSError):
            found[name] = os.stat(name).st_mtime_ns
    return found


class Template:
    """Serves requests to fork, and tells of the ends of its children."""

    def __init__(self, sock, restore_signals, stale):
        self.sock, self.restore_signals, self.stale = sock, restore_signals, stale
        self.changes = changes_of_environment()
        self.children = set()
        """Those whose end has not been told of."""
        self.wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(sock, selectors.EVENT_READ, self.receive)
        self.selector.register(self.wake, selectors.EVENT_READ, self.look)

    def serve(self):
        """Return the arguments of a kernel, in a child. In the template, never return."""
        while True:
            for key, _ in self.selector.select():
                argv = key.data()
                if argv is not None:
                    return argv

    def receive(self):
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, 4096, 4)
        except OSError:
            data = b""
        if not data:
            os._exit(0)
        message = json.loads(data)
        if "reap" in message:
            self.children.discard(message["reap"])
            with contextlib.suppress(ChildProcessError):
                os.waitpid(message["reap"], 0)
            return None
        argv = self.fork(message["fork"], fds)
        if argv is None:
            for fd in fds:
                os.close(fd)
        return argv

    def look(self):
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)
        for pid in sorted(self.children):
            # It stays a zombie, which keeps its number, until the broker says that it sends no more signals to it.
            end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if end is not None:
                self.children.remove(pid)
                say(self.sock, exited=pid, status=end.si_status if end.si_code == os.CLD_EXITED else -end.si_status)

    def fork(self, id, fds):
        """Answer a request. Returns the arguments of a kernel in the child."""
        try:
            if self.stale():
                say(self.sock, id=id, stale=True)
                return None
            if len(fds) != 4:
                raise OSError("some descriptors did not arrive")
            with open(fds[0], "rb", closefd=False) as file:
                file.seek(0)
                request = json.load(file)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # That a library's own threads do not survive is known; a warning that was made an error would be worse.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pid = os.fork()
        except (OSError, ValueError) as error:
            say(self.sock, id=id, error=describe(error))
            return None
        if pid == 0:
            return self.begin(request, fds, ours, theirs)
        theirs.close()
        with ours:
            said = ours.recv(4096)
            if said == GO:
                self.children.add(pid)
                say(self.sock, id=id, pid=pid)
                with contextlib.suppress(OSError):
                    ours.send(GO)
            else:
                os.waitpid(pid, 0)
                say(self.sock, id=id, error=said.decode("utf-8", "replace") or "the child died at once")
        return None

    def begin(self, request, fds, ours, theirs):
        """In the child: get ready, say so, and wait for the word."""
        try:
            self.selector.close()
            self.sock.close()
            ours.close()
            signal.set_wakeup_fd(-1)
            self.restore_signals()
            become(request, fds[1:], theirs.fileno(), self.changes)
            theirs.send(GO)
            if not theirs.recv(1):
                os._exit(1)
            theirs.close()
        except BaseException as error:
            with contextlib.suppress(OSError):
                theirs.send(describe(error).encode("utf-8", "replace")[:4000])
            os._exit(1)
        return request["argv"][1:]


def become(request, fds, kept, changes):
    """Turn this process, a copy of the template, into what a fresh start would have made."""
    os.setsid()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != kept:
            # One of them was for reading that directory.
            with contextlib.suppress(OSError):
                os.close(fd)
    os.chdir(request["cwd"])
    env = request["env"]
    # Made of the same, it would be the same.
    made = {name: after for name, (before, after) in changes.items() if env.get(name) == before}
    os.environ.clear()
    os.environ.update({**env, **made})
    time.tzset()
    mark(os.environ.get(MARK, ""))
    sys.orig_argv = [*sys.orig_argv[: len(sys.orig_argv) - len(sys.argv)], *request["argv"]]
    sys.argv = list(request["argv"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = reopen(number, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    renew()


def mark(value):
    """Write :data:`MARK` where /proc/PID/environ is read from: the variables that this process was started with."""
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/environ", "rb") as file:
            environ = b"\0" + file.read()
        at = environ.index(b"\0%s=" % MARK.encode()) + len(MARK) + 1
        room = len(environ) - 2 - at
        with open("/proc/self/stat", "rb") as file:
            start = int(file.read().rpartition(b")")[2].split()[47])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start + at)
            memory.write(os.fsencode(value)[:room].ljust(room, b"\0"))


def reopen(number, old):
    """A standard stream as Python makes it at its start, on what is behind ``number`` now."""
    mode, buffering = ("wb", 0 if old.write_through else -1) if number else ("rb", -1)
    binary = open(number, mode, buffering, closefd=False)  # noqa: SIM115
    getattr(binary, "raw", binary).name = old.name
    stream = io.TextIOWrapper(
        binary,
        encoding=old.encoding,
        errors=old.errors,
        newline="\n",
        line_buffering=not old.write_through and (number == 2 or binary.isatty()),
        write_through=old.write_through,
    )
    stream.mode = old.mode
    return stream


def renew():
    """Make anew what modules made when they were imported, and what must not be the same in two kernels."""
    for entry in [entry for entry, finder in sys.path_importer_cache.items() if finder is None]:
        # It did not exist, and may do now.
        del sys.path_importer_cache[entry]
    # `random` and `threading` do it by themselves, but for this.
    threading.main_thread()._set_native_id()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "multiprocessing.process" in sys.modules:
        process = sys.modules["multiprocessing.process"]
        # With a key of its own.
        process._current_process = type(process._current_process)()
        process._process_counter = itertools.count(1)
        process._children = set()
    logging._startTime = time.time_ns() if isinstance(logging._startTime, int) else time.time()


def describe(error):
    return f"{type(error).__name__}: {error}"


def say(sock, **message):
    try:
        sock.send(json.dumps(message).encode())
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    main()
