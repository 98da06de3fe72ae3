"""Makes sockets where it runs and gives them away unconnected: each is of this program's cgroup and network namespace."""

import socket
import sys

door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
door.connect(sys.argv[1])
while door.recv(1):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        socket.send_fds(door, [b"s"], [made.fileno()])
