"""What a figure was measured on."""

import os
import platform
from pathlib import Path


def describe() -> str:
    """CPU, cores, kernel."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "?")
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"
