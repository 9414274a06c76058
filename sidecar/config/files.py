"""Reading files that a configuration names, without waiting for anybody."""

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, limit: int) -> bytes:
    """The whole of a regular file of at most `limit` bytes.

    Whoever reads it may be a running node, so a pipe is refused, which nobody might write to, and what has no end as
    well. Raises OSError, which says in `strerror` what is wrong.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes")
    return data
