"""A pipe by which child processes notice that their parent is gone, however it died.

The parent keeps the writing end and never writes; the kernel closes it with the process, also on kill -9. Each child
reads the other end, and ends itself as on SIGTERM when the end of the pipe arrives. Unlike PR_SET_PDEATHSIG this works
on every Unix, and does not depend on which thread started the child.
"""

import os
import signal
import threading


class Lifeline:
    """The parent's side: one for all its children."""

    def __init__(self) -> None:
        self.child_fd, self._parent_fd = os.pipe()

    def close(self) -> None:
        """Lets go of both ends; children that are still there end themselves."""
        os.close(self.child_fd)
        os.close(self._parent_fd)


def hold(fd: int | None) -> None:
    """The child's side: from now on this process gets SIGTERM when the parent of `fd` is gone. None: no parent."""
    if fd is not None:
        threading.Thread(target=_watch, args=(fd,), name="lifeline", daemon=True).start()


def _watch(fd: int) -> None:
    os.read(fd, 1)
    os.kill(os.getpid(), signal.SIGTERM)
