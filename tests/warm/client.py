"""`python client.py SOCKET NAME [ARGUMENTS]...`: a process that `server.py` forks, as one's own.

NAME is the command that was given in place of Python, and the arguments are Python's. This process
hands over its variables, working directory and open files, passes signals on, and ends as the
other one does. Killed, it takes the other along.
"""

import json
import os
import signal
import socket
import sys

NUMBER = 8
"""Bytes of a number between client and server."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def told(server: socket.socket) -> int:
    """The next number of the server's."""
    found = server.recv(NUMBER, socket.MSG_WAITALL)
    if len(found) < NUMBER:
        sys.exit("The server of warm processes has ended.")
    return int.from_bytes(found, "little")


def is_handed_on(file: int) -> bool:
    try:
        return os.get_inheritable(file)
    except OSError:  # it was open while the folder was listed
        return False


def main(place: str, python: str, arguments: list[str]) -> None:
    # The other process may be at work, and a signal meant for it, before this one can pass it on.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    server = socket.socket(socket.AF_UNIX)
    server.connect(place)
    files = [file for file in map(int, os.listdir("/proc/self/fd")) if is_handed_on(file)]
    asked = {"python": python, "arguments": arguments, "environment": dict(os.environ),
             "place": os.getcwd(), "files": files}  # fmt: skip
    content = json.dumps(asked).encode()
    socket.send_fds(server, [len(content).to_bytes(NUMBER, "little")], files)
    server.sendall(content)

    process = told(server)
    for number in PASSED_ON:
        signal.signal(number, lambda received, _: os.kill(process, received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    code = os.waitstatus_to_exitcode(told(server))
    if code >= 0:
        os._exit(code)
    if -code in PASSED_ON:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
