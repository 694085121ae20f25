"""A system call filter for builds: no second way to what the namespaces took away.

Namespaces and dropped capabilities already deny most of these calls; the filter denies them
again, in another layer, and takes away kernel surface that no compiler needs. The only importer
of ``pyseccomp``; where libseccomp is missing there is no filter, and the environment record of
every build says so.
"""

from __future__ import annotations

import errno
import json
import os
from typing import Final

DENIED: Final = (
    "acct",
    "add_key",
    "bpf",
    "delete_module",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "reboot",
    "request_key",
    "setns",
    "swapoff",
    "swapon",
    "syslog",
    "umount2",
    "unshare",
    "userfaultfd",
)


MOUNTING: Final = frozenset(
    {"mount", "umount2", "pivot_root", "unshare", "setns", "name_to_handle_at"}
)
"""What a container engine needs to lay out a root for a step; the step itself does without."""


def open_filter(*, allowed: frozenset[str] = frozenset()) -> int | None:
    """Return a descriptor from which bwrap reads the filter, or None without libseccomp.

    Args:
        allowed: Calls of :data:`DENIED` that are let through all the same.

    Returns:
        The caller closes it. Calls of a foreign architecture (32-bit) end the process.
    """
    try:
        import pyseccomp  # noqa: PLC0415 - its import fails where libseccomp is not installed
    except (ImportError, OSError, RuntimeError):
        return None
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in sorted(set(DENIED) - allowed):
        try:
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
        except (OSError, ValueError):
            continue  # an older libseccomp does not know a newer call
    descriptor = os.memfd_create("seccomp")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        rules.export_bpf(file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def engine_profile() -> bytes:
    """Return the same filter in the form that container engines read, for steps of a build."""
    return json.dumps(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "syscalls": [
                {"names": list(DENIED), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM}
            ],
        }
    ).encode()
