"""Keeps freed memory in the process, for networks whose layers' outputs take megabytes.

Every minibatch frees what the one before needed and asks for the same again. By default the C
library gives large blocks back to the operating system at once and gets new, empty pages for the
next one, page by page: on images that is a sixth of an update's time.
"""

from __future__ import annotations

import ctypes
import functools
import platform

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST_KEPT_BYTES = 32 * 2**20  # the most that glibc takes
_TOP_PAD_BYTES = 64 * 2**20


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep blocks of up to 32 MB that are freed until the process ends.

    Returns:
        Whether it will; only glibc is asked.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wishes = (
        (_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES),
        (_M_TRIM_THRESHOLD, 2**31 - 1),
        (_M_TOP_PAD, _TOP_PAD_BYTES),
    )
    return all(mallopt(parameter, value) == 1 for parameter, value in wishes)
