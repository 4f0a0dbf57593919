"""The processes that a process has started."""

from pathlib import Path


def descendants(pid: int) -> list[int]:
    """All processes that a process has started, and theirs; each comes before its parent."""
    direct = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            direct.append(int(stat.parent.name))
    return [child for one in direct for child in (*descendants(one), one)]
