"""What a number travels with: the processor, its vector width, the date."""

from __future__ import annotations

import os
import platform
import time


def cpu_fields() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            block = file.read().split("\n\n", 1)[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}


def machine() -> str:
    """The processor's name and vector instructions, the number of processors, the date."""
    fields = cpu_fields()
    flags = fields.get("flags", "").split()
    vectors = next((f", {name}" for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "")
    name = fields.get("model name") or platform.processor() or platform.machine()
    return f"{name}{vectors}, {os.cpu_count()} processors, {time.strftime('%Y-%m-%d')}"
