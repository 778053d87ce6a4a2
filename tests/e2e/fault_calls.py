"""Every change a process makes to the file system, seen before it happens, to refuse, delay or die at.

The kernel's own filter (``seccomp`` with user notification, Linux 5.5 and later, no privileges needed) stops the process
at each such call and asks us. So nothing is missed: also what a C++ or a Rust library writes is on the list.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# By machine: the number of seccomp(2), and of each call that can change a file or folder.
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_NUMBERS = {
    "x86_64": {
        1: "write", 18: "pwrite64", 20: "writev", 296: "pwritev", 328: "pwritev2", 40: "sendfile",
        326: "copy_file_range", 77: "ftruncate", 285: "fallocate", 74: "fsync", 75: "fdatasync",
        2: "open", 257: "openat", 437: "openat2", 85: "creat", 76: "truncate",
        83: "mkdir", 258: "mkdirat", 84: "rmdir", 87: "unlink", 263: "unlinkat",
        82: "rename", 264: "renameat", 316: "renameat2", 86: "link", 265: "linkat", 88: "symlink", 266: "symlinkat",
    },
    "aarch64": {
        64: "write", 68: "pwrite64", 66: "writev", 70: "pwritev", 287: "pwritev2", 71: "sendfile",
        285: "copy_file_range", 46: "ftruncate", 47: "fallocate", 82: "fsync", 83: "fdatasync",
        56: "openat", 437: "openat2", 45: "truncate", 34: "mkdirat", 35: "unlinkat",
        38: "renameat", 276: "renameat2", 37: "linkat", 36: "symlinkat",
    },
}  # fmt: skip
_BY_HANDLE = {
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
}
_SECOND_HANDLE = {"copy_file_range": 2, "sendfile": 0}
_PATH_AT = {"openat": (0, 1), "openat2": (0, 1), "mkdirat": (0, 1), "unlinkat": (0, 1), "symlinkat": (1, 2)}
_PATH_AT |= {"renameat": (2, 3), "renameat2": (2, 3), "linkat": (2, 3)}
_SECOND_PATH = {"rename", "link", "symlink"}

NEEDS_SPACE = _BY_HANDLE | {
    "sendfile",
    "copy_file_range",
    "open",
    "openat",
    "openat2",
    "creat",
    "mkdir",
    "mkdirat",
}
NEEDS_SPACE |= {"link", "linkat", "symlink", "symlinkat"}
"""What a full disk refuses. Removing and renaming go on."""

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_FILTER_AND_LISTEN = (1, 8)  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER
_NO_NEW_PRIVILEGES = 38
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_OPEN_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Call:
    """One call, waiting for an answer: its name and the file or folder that it would change."""

    token: int
    pid: int
    name: str
    path: str


class Listener:
    """The calls of one process that change something below ``roots``; all others go on unseen."""

    def __init__(self, handle: int, roots: tuple[Path, ...]):
        self._handle = handle
        self._roots = tuple(os.path.realpath(root) for root in roots)
        self._waiting: Call | None = None

    def __iter__(self) -> Iterator[Call]:
        """Calls until the process ends; one that is not answered happens when the next one is asked for."""
        while (call := self.next()) is not None:
            yield call

    def next(self, seconds: float | None = None) -> Call | None:
        """The next call; ``None`` when the process has ended, or nothing came for ``seconds``."""
        if self._waiting is not None:
            self.answer(self._waiting)
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        while events := poll.poll(None if seconds is None else seconds * 1000):
            if not events[0][1] & select.POLLIN:
                return None
            call = self._receive()
            if call is None:
                continue
            self._waiting = call
            if call.path.startswith(self._roots):
                return call
            self.answer(call)
        return None

    def answer(self, call: Call, error: int = 0) -> None:
        """Let the call happen, or fail with ``error`` without happening."""
        self._waiting = None
        reply = struct.pack("=QqiI", call.token, 0, -error, 0 if error else _CONTINUE)
        try:
            fcntl.ioctl(self._handle, _SEND, bytearray(reply))
        except OSError as gone:
            if gone.errno != errno.ENOENT:  # a signal interrupted the call, or the process was killed
                raise

    def close(self) -> None:
        """From here on every call of the process fails with ENOSYS, so end it first."""
        os.close(self._handle)

    def _receive(self) -> Call | None:
        buffer = bytearray(80)
        try:
            fcntl.ioctl(self._handle, _RECEIVE, buffer)
        except OSError as gone:
            if gone.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        token, pid, _, number, _, _, *arguments = struct.unpack("=QIIiIQ6Q", buffer)
        name = _NUMBERS[platform.machine()][number]
        return Call(token, pid, name, _path(pid, name, arguments))


def _path(pid: int, name: str, arguments: list[int]) -> str:
    """What the call would change; empty if the process is gone."""
    try:
        if name in _BY_HANDLE or name in _SECOND_HANDLE:
            return os.readlink(f"/proc/{pid}/fd/{arguments[_SECOND_HANDLE.get(name, 0)] & 0xFFFFFFFF}")
        if name in _PATH_AT:
            handle, place = _PATH_AT[name]
            return _joined(pid, arguments[handle], _text(pid, arguments[place]))
        return _joined(pid, _CURRENT, _text(pid, arguments[1 if name in _SECOND_PATH else 0]))
    except OSError:
        return ""


_CURRENT = 0xFFFFFF9C  # AT_FDCWD


def _joined(pid: int, handle: int, text: str) -> str:
    handle &= 0xFFFFFFFF
    base = os.readlink(f"/proc/{pid}/cwd" if handle == _CURRENT else f"/proc/{pid}/fd/{handle}")
    return os.path.normpath(os.path.join(base, text))


def _text(pid: int, address: int) -> str:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        found = b""
        # A string may end just before memory that cannot be read.
        while b"\0" not in found and len(found) < 4096:
            found += memory.read(min(256, 4096 - (address + len(found)) % 4096))
    return os.fsdecode(found.split(b"\0")[0])


def listen() -> int:
    """Stop this thread, and all that it will start, at each of the calls; the handle on which they are asked about.

    Raises:
        OSError: this system cannot do it.
    """
    library = ctypes.CDLL(None, use_errno=True)
    machine = platform.machine()
    if machine not in _SECCOMP:
        raise OSError(errno.ENOSYS, f"no table of calls for {machine}")
    code = _program(_NUMBERS[machine])
    lines = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("lines", ctypes.c_void_p)]

    program = Program(len(code) // 8, ctypes.addressof(lines))
    library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    handle = library.syscall(_SECCOMP[machine], *_FILTER_AND_LISTEN, ctypes.byref(program))
    if handle < 0:
        raise OSError(ctypes.get_errno(), "seccomp cannot listen here")
    return int(handle)


def _program(numbers: dict[int, str]) -> bytes:
    """Berkeley packet filter: notify for the numbers; for an opening only where it can change the file."""
    code = [(_LOAD, 0, 0, 0)]
    for number, name in numbers.items():
        flags = {"open": 1, "openat": 2}.get(name)
        if flags is None:
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY)]
        else:
            code += [
                (_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, 16 + 8 * flags),
                (_AND, 0, 1, _OPEN_TO_WRITE),
                (_RETURN, 0, 0, _NOTIFY),
                (_RETURN, 0, 0, _ALLOW),
            ]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in code)
