"""Becomes a program that may not call bpf(2): without_bpf.py PROGRAM ARGUMENTS...

The kernel answers the call with EPERM, as a seccomp filter of a container runtime or of systemd does. x86-64 and arm64.
"""
import ctypes
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, REFUSE = 0x7FFF0000, 0x00050001
bpf = {"x86_64": 321, "aarch64": 280}[platform.machine()]
# Load the call's number; is it bpf? Refuse with EPERM; else allow.
code = b"".join(struct.pack("HBBI", *step) for step in [(0x20, 0, 0, 0), (0x15, 0, 1, bpf), (0x06, 0, 0, REFUSE), (0x06, 0, 0, ALLOW)])


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]


program = Program(len(code) // 8, code)
libc = ctypes.CDLL(None, use_errno=True)
for step in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)]:
    if libc.prctl(*step) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
os.execv(sys.argv[1], sys.argv[1:])
