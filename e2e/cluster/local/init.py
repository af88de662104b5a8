"""The first process of the node's PID namespace: starts one command, buries the rest.

``python -I -S init.py COMMAND…`` ends when the command does, and with it everything
in the namespace. Standard library only: it runs for as long as the cluster.
"""

import os
import signal
import sys


def main(command: list[str]) -> int:
    """Run the command; returns its exit status."""
    child = os.fork()
    if child == 0:
        os.execvp(command[0], command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: os.kill(child, got))
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
