"""What a number travels with: the processor, its vector width, the date, and who else was using it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable


def cpu_fields() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            block = file.read().split("\n\n", 1)[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}


def machine() -> str:
    """The processor's name, its family and vector instructions, the number of processors, the date.

    A hypervisor may hide the rest of the name, and one family does twice the products of another in a cycle.
    """
    fields = cpu_fields()
    flags = fields.get("flags", "").split()
    vectors = next((f", {name}" for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "")
    name = fields.get("model name") or platform.processor() or platform.machine()
    family = f" family {fields['cpu family']}" if "cpu family" in fields else ""
    return f"{name}{family}{vectors}, {os.cpu_count()} processors, {time.strftime('%Y-%m-%d')}"


class Others:
    """How busy everything but some processes keeps the processors; a core shared is a thread pool waiting."""

    def __init__(self, processes: Iterable[int]) -> None:
        self.processes = [os.getpid(), *processes]
        self.began, self.busy, self.own = time.monotonic(), busy_seconds(), self._own()

    def _own(self) -> float:
        return sum(map(process_seconds, self.processes))

    def share(self) -> float:
        """The share of all processors' time since the start; 0 where the system does not tell."""
        elapsed = (time.monotonic() - self.began) * (os.cpu_count() or 1)
        return max(0.0, busy_seconds() - self.busy - (self._own() - self.own)) / max(elapsed, 0.01)


def busy_seconds() -> float:
    """What all processors have worked since they started, and what a hypervisor took from them."""
    try:
        with open("/proc/stat", encoding="utf-8") as file:
            user, nice, system, _idle, _wait, *rest = map(int, file.readline().split()[1:9])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def process_seconds(process: int) -> float:
    """What a process's threads have worked; 0 if it is gone."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
