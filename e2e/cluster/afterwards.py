"""``python -I -S afterwards.py PID -- COMMAND…``: run a command once a process is gone.

For what a killed process can't clear up itself. Standard library only.
"""

import os
import select
import sys


def main(arguments: list[str]) -> None:
    """Wait, then become the command."""
    try:
        watched = os.pidfd_open(int(arguments[0]))
    except ProcessLookupError:
        pass
    else:
        select.select([watched], [], [])
    os.execvp(arguments[2], arguments[2:])


if __name__ == "__main__":
    main(sys.argv[1:])
