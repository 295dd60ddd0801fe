"""A child notices that its parent is gone."""

import os
import signal
import subprocess
import sys

from tests.cli.waiting import PATIENCE_S

CHILD = """
import sys, time
from cli import lifeline
lifeline.hold(int(sys.argv[1]))
print("up", flush=True)
time.sleep(60)
"""


def test_a_child_gets_sigterm_when_the_last_writing_end_is_closed() -> None:
    child_fd, parent_fd = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(child_fd)], pass_fds=[child_fd], stdout=subprocess.PIPE
    ) as child:
        os.close(child_fd)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert child.poll() is None
        os.close(parent_fd)
        assert child.wait(PATIENCE_S) == -signal.SIGTERM
