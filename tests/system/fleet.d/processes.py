"""Which processes fetch, and what they leave."""

import collections
import os
import pathlib

PROC = pathlib.Path("/proc")


def _sockets(server):
    """The connections to a port of this machine: (local port, bytes that are sent to it and not read) by inode."""
    lines = [line.split() for line in (PROC / "net/tcp").read_text().splitlines()[1:]]
    ports = [[int(address.rpartition(":")[2], 16) for address in words[1:3]] for words in lines]
    queues = [[int(queue, 16) for queue in words[4].split(":")] for words in lines]
    unsent = {remote: queue[0] for (local, remote), queue in zip(ports, queues) if local == server}
    return {
        words[9]: (local, queue[1] + unsent.get(local, 0))
        for words, (local, remote), queue in zip(lines, ports, queues)
        if remote == server
    }


def _open_files(pid):
    """What the descriptors of a process lead to; nothing once it has ended."""
    try:
        names = os.listdir(PROC / str(pid) / "fd")
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(PROC / str(pid) / "fd" / name)
        except OSError:
            continue


def _pids():
    return [int(name) for name in os.listdir(PROC) if name.isdigit() and int(name) != os.getpid()]


def fetchers(server):
    """The processes with connections to a port of this machine: by the process, and by the local port, the bytes that
    are sent to it and not read."""
    sockets = _sockets(server)
    found = {}
    for pid in _pids():
        inodes = (text[8:-1] for text in _open_files(pid) if text.startswith("socket:["))
        connections = dict(sockets[inode] for inode in inodes if inode in sockets)
        if connections:
            found[pid] = connections
    return found


def users_of(directory):
    """The processes that have a file below a directory open, or the directory."""
    return [pid for pid in _pids() if any(text.startswith(directory) for text in _open_files(pid))]


def is_alive(pid):
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def ancestors(pid):
    """The parent of a process, its parent, and so on."""
    while pid > 1:
        try:
            pid = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return
        yield pid


def program(pid):
    """The base name of what a process runs."""
    try:
        return os.path.basename(os.readlink(PROC / str(pid) / "exe"))
    except OSError:
        return ""


def command(pid):
    """The words that a process was started with."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def marked(mark):
    """The processes with this word in their environment, apart from this one, its ancestors, and what an interpreter
    of Python keeps beside itself for as long as it runs."""
    spared = set(ancestors(os.getpid()))
    found = []
    for pid in _pids():
        try:
            environment = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in environment and pid not in spared and is_alive(pid):
            if "multiprocessing.resource_tracker" not in command(pid):
                found.append(pid)
    return found


def sharing(directory):
    """How many processes have the same file below a directory open, at most."""
    counts = collections.Counter(
        text for pid in _pids() for text in set(_open_files(pid)) if text.startswith(directory)
    )
    return max(counts.values(), default=0)
