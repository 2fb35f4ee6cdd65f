"""Two hosts on one: network namespaces with an address each, and torchrun in both; also for benchmarks/cluster.py."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

ADDRESSES = ("10.77.0.1", "10.77.0.2")
IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "ip"


def ip(*words: str) -> None:
    subprocess.run([IP, *words], check=True, capture_output=True, text=True)


@contextmanager
def connected_hosts() -> Iterator[list[str]]:
    """Names of two connected namespaces; raises CalledProcessError without the right to create them."""
    names = [f"cxr-{os.getpid()}-{letter}" for letter in "ab"]
    ip("netns", "add", names[0])
    try:
        ip("netns", "add", names[1])
        ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run([IP, "netns", "del", name], check=False, capture_output=True)


def torchrun(
    hosts: Sequence[str], command: Sequence[str], environment: Mapping[str, str], **pipes: Any
) -> list["subprocess.Popen[str]"]:
    """Starts torchrun on both hosts, each with one process that runs a Python command."""
    started = []
    for number, (host, address) in enumerate(zip(hosts, ADDRESSES, strict=True)):
        agent = ["--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d", f"--rdzv_endpoint={ADDRESSES[0]}:29400",
                 f"--rdzv_conf=is_host={1 - number}", f"--local_addr={address}"]  # fmt: skip
        words = [IP, "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", *agent, *command]
        interface = {"GLOO_SOCKET_IFNAME": "eth0"}
        started.append(subprocess.Popen(words, env={**environment, **interface}, text=True, **pipes))
    return started
