"""`python server.py SOCKET`: a Python that has imported what the commands import, and forks.

Importing takes longer than most runs of the tests. The server computes with no tensor, so that
there are no threads, which a fork would lack. It ends with the last of its users.
"""

import atexit
import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

NUMBER = 8
"""Bytes of a number between client and server."""
MOST_FILES = 250
FREE = 300
"""From here on no test has a file descriptor of its own."""
PACKAGES = (
    "dao.learner.experiment.preloaded",
    "dao.learner.inference.predictor",
    "dao.learner.experiment.grid.runner",
    "torch.distributed.launcher.api",
)
READ_ONCE = ("PYTHON", "HF_", "TRANSFORMERS_", "OMP_")
"""How the names begin of variables that Python or a package reads when it starts."""
READ_LATER = ("PYTHONPATH", "PYTHON_EXEC")
"""The exceptions."""


@dataclass
class Process:
    """What a client asks for.

    Attributes:
        python: the command that stands for Python, for `sys.executable`.
        arguments: of that command.
        environment: all variables.
        place: the working directory.
        files: descriptor in the client -> the same file here.
    """

    python: str
    arguments: list[str]
    environment: dict[str, str]
    place: str
    files: dict[int, int]


class Server:
    """Waits for clients; users are connections that ask for nothing and keep the server alive."""

    def __init__(self, place: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        starting = place.with_name(f"{place.name}.starting")
        self.listener.bind(str(starting))
        self.listener.listen()
        starting.rename(place)
        self.events = selectors.PollSelector()  # epoll would be shared with the forks
        self.events.register(self.listener, selectors.EVENT_READ)
        self.users: set[socket.socket] = set()
        self.clients: dict[socket.socket, int] = {}
        self.processes: dict[int, tuple[int, socket.socket]] = {}

    def serve(self) -> Process:
        """Fork for each client. It returns in the forks alone."""
        while True:
            for file in [key.fileobj for key, _ in self.events.select()]:
                if file is self.listener:
                    asked = self.accept()
                    if asked is not None:
                        return asked
                elif file in self.users:
                    self.users.remove(file)
                    self.forget(file)
                    if not self.users:
                        self.end()
                elif file in self.clients:
                    # The client was killed, and takes its process and the children along.
                    os.killpg(self.clients.pop(file), signal.SIGKILL)
                    self.forget(file)
                elif file in self.processes:
                    self.tell(file)

    def accept(self) -> Process | None:
        """In a fork what it was made for; None in the server."""
        connection = self.listener.accept()[0]
        try:
            asked = receive(connection)
        except ValueError:  # the client was killed before it had told everything
            connection.close()
            return None
        self.events.register(connection, selectors.EVENT_READ)
        if asked is None:
            self.users.add(connection)
            send(connection, 0)
            return None
        process = os.fork()
        if not process:
            for file in [key.fileobj for key in self.events.get_map().values()]:
                self.forget(file)
            self.events.close()
            os.setpgrp()
            return asked
        with suppress(OSError):  # it has done so itself, or has ended
            os.setpgid(process, process)
        for file in asked.files.values():
            os.close(file)
        end = os.pidfd_open(process)
        self.events.register(end, selectors.EVENT_READ)
        self.clients[connection], self.processes[end] = process, (process, connection)
        send(connection, process)
        return None

    def tell(self, end: int) -> None:
        """A process has ended: its client learns how."""
        process, connection = self.processes.pop(end)
        self.forget(end)
        status = os.waitpid(process, 0)[1]
        if self.clients.pop(connection, None) is not None:
            send(connection, status)
            self.forget(connection)

    def forget(self, file: socket.socket | int) -> None:
        self.events.unregister(file)
        os.close(file) if isinstance(file, int) else file.close()

    def end(self) -> None:
        for process, _ in self.processes.values():
            os.kill(process, signal.SIGKILL)
        os._exit(0)


def receive(connection: socket.socket) -> Process | None:
    """What a client asks for; None: nothing, it is a user."""
    size, files, _, _ = socket.recv_fds(connection, NUMBER, MOST_FILES)
    length = int.from_bytes(size, "little")
    if not length:
        return None
    content = json.loads(connection.recv(length, socket.MSG_WAITALL))
    return Process(**{**content, "files": dict(zip(content["files"], files, strict=True))})


def send(connection: socket.socket, number: int) -> None:
    with suppress(OSError):  # the client was killed just now
        connection.sendall(number.to_bytes(NUMBER, "little"))


def become(process: Process) -> None:
    """Take over files, working directory and variables.

    Raises:
        SystemExit: a variable differs that only a new Python would read.
    """
    moved = {file: fcntl.fcntl(here, fcntl.F_DUPFD, FREE) for file, here in process.files.items()}
    for here in process.files.values():
        os.close(here)
    for file, here in moved.items():
        os.dup2(here, file)
        os.close(here)
    os.chdir(process.place)
    asked = process.environment
    for name in {**os.environ, **asked}:
        once = name.startswith(READ_ONCE) and name not in READ_LATER
        if once and os.environ.get(name) != asked.get(name):
            sys.exit(f"{name} is read when Python starts: this command needs sys.executable.")
    os.environ.clear()
    os.environ.update(asked)
    sys.executable = process.python


def run(arguments: list[str]) -> None:
    """What Python would do with a script, -m MODULE or -c CODE, maybe after -u or -B."""
    while arguments[0] in ("-u", "-B"):
        flag, *arguments = arguments
        if flag == "-u":
            sys.stdout.reconfigure(write_through=True)
        else:
            sys.dont_write_bytecode = True
    what, *rest = arguments
    found = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    if what == "-m":
        sys.path[:0] = [os.getcwd(), *found]
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.path[:0] = ["", *found]
        sys.argv = ["-c", *rest[1:]]
        sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(sys.modules["__main__"]))
    elif what.startswith("-"):
        sys.exit(f"The option {what} of Python is none of a warm process.")
    else:
        sys.path[:0] = [str(Path(what).resolve().parent), *found]
        sys.argv = arguments
        runpy.run_path(what, run_name="__main__")


def code_of(arguments: list[str]) -> int:
    """The exit code with which Python would end."""
    try:
        run(arguments)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def leave(code: list[int]) -> None:
    """End without taking apart what was imported, which takes longer than a short command.

    An interrupted process has no code and ends as Python has it.
    """
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code[0])


def main(place: Path, root: str) -> None:
    code: list[int] = []
    atexit.register(leave, code)  # the last, because it was the first to be registered
    sys.path[0] = root
    for name in PACKAGES:
        importlib.import_module(name)
    sys.path.pop(0)
    gc.collect()
    gc.freeze()
    process = Server(place).serve()
    become(process)
    code.append(code_of(process.arguments))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
