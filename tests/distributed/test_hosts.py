"""Ranks on several hosts: named by a host file, talking over TCP."""

import contextlib
import os
import shutil
import subprocess

import pytest

from . import ranks


def test_two_hosts_over_the_loopback(tmp_path):
    """Both names are this machine; without shared memory (NOLOCAL) the ranks talk over sockets, as hosts do."""
    (tmp_path / "hosts").write_text("127.0.0.1:2\nlocalhost:1\n")
    found = ranks.run(3, "arrays", options=["-f", tmp_path / "hosts", "-launcher", "fork"],
                      environment={"MPIR_CVAR_NOLOCAL": "1"})
    assert [result[0] for result in found] == [[3.0, 6.0, 9.0, 12.0]] * 3


RSH = """#!/bin/sh
# As ssh: HOST COMMAND...
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
exec ip netns exec PREFIX${host##*.} sh -c "$*"
"""


@contextlib.contextmanager
def two_machines(prefix):
    """Two network namespaces, 10.87.0.1 and 10.87.0.2, that see nothing but each other."""
    ip = shutil.which("ip")
    if ip is None or os.geteuid() != 0:
        pytest.skip("making network namespaces needs root and the program ip")

    def command(text):
        done = subprocess.run([ip, *text.split()], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no network namespaces here: {done.stderr.strip()}")

    try:
        for i in (1, 2):
            command(f"netns add {prefix}{i}")
        command(f"link add {prefix}v1 type veth peer name {prefix}v2")
        for i in (1, 2):
            command(f"link set {prefix}v{i} netns {prefix}{i}")
            for rest in (f"addr add 10.87.0.{i}/24 dev {prefix}v{i}", f"link set {prefix}v{i} up", "link set lo up"):
                command(f"netns exec {prefix}{i} ip {rest}")
        yield ip
    finally:
        for i in (1, 2):
            subprocess.run([ip, "netns", "del", f"{prefix}{i}"], capture_output=True)


def test_two_network_namespaces(tmp_path):
    prefix = f"mf{os.getpid() % 100000}"
    launcher = tmp_path / "rsh"
    launcher.write_text(RSH.replace("PREFIX", prefix))
    launcher.chmod(0o755)
    (tmp_path / "hosts").write_text("10.87.0.1:2\n10.87.0.2:2\n")
    with two_machines(prefix) as ip:
        options = ["-f", tmp_path / "hosts", "-launcher", "ssh", "-launcher-exec", launcher]
        found = ranks.run(4, "training", tmp_path, 1, options=options, before=[ip, "netns", "exec", f"{prefix}1"])
    assert len({result["digest"] for result in found}) == 1
    assert found[0]["observations"] == 23
