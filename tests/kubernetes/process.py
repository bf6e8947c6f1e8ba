"""What a test asks of a node, from a privileged pod on it. The question is the first argument; strings to look for come as JSON on stdin."""

import ctypes
import json
import os
import signal
import socket
import stat
import sys

# Files beyond this are not ours.
LARGEST = 256 << 20
# The kernel's own: what of it a process can read of others is asked for by itself. Memory that is shared is files.
KERNEL = ("proc", "sys", "dev")
SHARED = "dev/shm"


def first(container):
    """The first process of a container."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/status") as status, open(f"/proc/{pid}/cgroup") as cgroup:
                spaces = [line for line in status if line.startswith("NSpid:")]
                if spaces and spaces[0].rstrip("\n").endswith("\t1") and container in cgroup.read():
                    return pid
        except OSError:
            continue
    sys.exit(f"no process of {container} is on this node")


def having(place, planted):
    """Each plain file at or below a place that has one of these in it."""
    try:
        about = os.lstat(place)
        if stat.S_ISDIR(about.st_mode):
            if place.endswith("/root"):
                yield from having(f"{place}/{SHARED}", planted)
            for name in sorted(os.listdir(place)):
                if not (place.endswith("/root") and name in KERNEL):
                    yield from having(f"{place}/{name}", planted)
        elif stat.S_ISREG(about.st_mode) and about.st_size < LARGEST:
            with open(place, "rb") as file:
                content = file.read()
            if any(one in content for one in planted):
                yield place
    except OSError:
        return


def connects(pid, address, port):
    """Whether a TCP connection is made within two seconds from the network of a process."""
    with open(f"/proc/{pid}/ns/net") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) != 0:
            sys.exit(os.strerror(ctypes.get_errno()))
    try:
        socket.create_connection((address, int(port)), timeout=2).close()
        return "open"
    except OSError:
        return "shut"


question, subject = sys.argv[1:]
if question == "first":
    print(first(subject))
elif question == "kill":
    os.kill(int(subject), signal.SIGKILL)
elif question == "pause":
    os.kill(int(subject), signal.SIGSTOP)
elif question == "read":
    with open(subject) as file:
        print(file.read(), end="")
elif question == "connects":
    print(connects(subject, *json.load(sys.stdin)))
elif question == "having":
    if not os.path.exists(subject):
        sys.exit(f"there is no {subject}")
    print("\n".join(having(subject, [one.encode() for one in json.load(sys.stdin)])))
