"""One blob over several connections, from a registry whose connections are slow: nginx limits each of them.

    SEAWALL=target/release/seawall python3 -m pytest tests/e2e/test_segments.py

Needs: nginx, docker-registry, openssl (Debian's packages), podman for its partial pulls; what is not there is skipped, and said so.
Counts what left the registry; how long it took is for the benchmarks.
"""

import concurrent.futures
import http.client
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.request

import pytest

from lab import ENVIRONMENT, MANIFEST, Processes, Registry, free_port
from test_registries import CONFIGURATION, HOST, SEAWALL, STORAGE, certificates, stack, tree  # noqa: F401 (a fixture)

NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
  log_format counted '$request_method $uri $status "$http_range" $body_bytes_sent';
  access_log {dir}/access.log counted; proxy_temp_path {dir}/proxy; client_body_temp_path {dir}/body;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; proxy_max_temp_file_size 0;
  server {{
    listen 127.0.0.1:{port} ssl; server_name {host};
    ssl_certificate {dir}/leaf.crt; ssl_certificate_key {dir}/leaf.key;
    location / {{ proxy_pass http://127.0.0.1:{registry}; proxy_set_header Host {host}; limit_rate {rate}; }}
  }}
}}
"""
MIB = 1 << 20
LINE = re.compile(r'GET (\S*/blobs/\S+) (\d+) "([^"]*)" (\d+)')


class World:
    """docker-registry behind nginx, which sends so many bytes a second over each connection, behind seawall."""

    def __init__(self, processes, rate):
        self.dir = processes.dir
        self.port, self.admin, self.nginx = free_port(), free_port(), free_port()
        self.registry = Registry(processes)
        certificates(self.dir)
        words = {"dir": self.dir, "host": HOST, "registry": self.registry.port, "rate": rate, "admin": self.admin, "nginx": self.nginx}
        for name, text, port, command in (("nginx.conf", NGINX, self.nginx, ["nginx", "-e", f"{self.dir}/error.log", "-c"]),
                                          ("seawall.toml", CONFIGURATION, self.port, [str(SEAWALL), "serve", "--config"])):
            (self.dir / name).write_text(text.format(port=port, **words))
            processes.start(name, [*command, f"{self.dir}/{name}"], port)

    def get(self, digest, asked=None):
        """By the mirror's path: the status and the bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", f"/v2/docker.io/acme/app/blobs/{digest}", headers={"Range": asked} if asked else {})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def sent(self):
        """Of blobs: the ranges that were asked for, and the bytes that left."""
        time.sleep(1)  # nginx writes a line when it knows that the other side has gone
        lines = [LINE.match(line) for line in (self.dir / "access.log").read_text().splitlines()]
        lines = [line for line in lines if line]
        return [line[3] for line in lines], sum(int(line[4]) for line in lines)

    def metric(self, name):
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics").read().decode()
        return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(name))

    def rest(self):
        """Waits until nothing is fetched any more."""
        until = time.monotonic() + 60
        while self.metric("seawall_fills") and time.monotonic() < until:
            time.sleep(0.1)


@pytest.fixture
def begun(tmp_path, stack):
    """A world whose registry sends so many bytes a second over each connection."""
    missing = [name for name in ("nginx", "docker-registry", "openssl") if not shutil.which(name)]
    if missing or not SEAWALL.exists():
        pytest.skip(f"not here: {missing or SEAWALL}")
    return lambda rate: World(stack.enter_context(Processes(tmp_path)), rate)


@pytest.fixture
def slow(begun):
    return begun("4m")


@pytest.fixture
def fast(begun):
    return begun("0")


def test_more_connections_come_where_each_is_slow(slow):
    """None is asked for by the client, who wants all of it."""
    blob = os.urandom(64 * MIB)
    digest = slow.registry.push("acme/app", blob)["digest"]
    status, got = slow.get(digest)
    assert status == 200 and got == blob
    ranges, sent = slow.sent()
    assert 2 <= len(ranges) <= 4, ranges
    assert sent < 1.02 * len(blob), f"{sent} bytes for {len(blob)}: {ranges}"
    other = os.urandom(64 * MIB)
    digest = slow.registry.push("acme/app", other)["digest"]
    assert slow.get(digest) == (200, other)
    again, _ = slow.sent()
    assert len(again) - len(ranges) >= len(ranges), f"what paid there is tried at once: {again}"


def test_parallel_ranges_cost_no_byte_twice(slow):
    """As containerd asks for a layer."""
    blob = os.urandom(24 * MIB)
    digest = slow.registry.push("acme/app", blob)["digest"]
    parts = [(start, start + 6 * MIB) for start in range(0, len(blob), 6 * MIB)]
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda part: slow.get(digest, f"bytes={part[0]}-{part[1] - 1}"), parts))
    assert [status for status, _ in answers] == [206] * 4
    assert b"".join(got for _, got in answers) == blob
    slow.rest()
    ranges, sent = slow.sent()
    assert len(ranges) == 4 and sent < 1.02 * len(blob), f"{sent} bytes for {len(blob)}: {ranges}"
    assert slow.get(digest) == (200, blob) and slow.sent()[1] == sent


def test_the_end_of_a_layer_costs_the_end_of_it(slow):
    """As lazy readers ask for the index that is there."""
    blob = os.urandom(30 * MIB)
    digest = slow.registry.push("acme/app", blob)["digest"]
    for asked in ("bytes=-65536", f"bytes={len(blob) - 50}-"):
        status, got = slow.get(digest, asked)
        assert status == 206 and blob.endswith(got)
    assert slow.sent()[1] == 65536, slow.sent()


def test_podman_moves_of_a_changed_image_no_more_than_without_seawall(fast, stack):
    """zstd:chunked, from a cold cache: only what is asked for comes from upstream."""
    podman = shutil.which("podman")
    if not podman:
        pytest.skip("podman is not here")
    short = stack.enter_context(tempfile.TemporaryDirectory(prefix="e2e-"))  # podman's limit: 50 characters
    built = [podman, "--root", f"{short}/made", "--runroot", f"{short}/made-run"]
    for tag in ("1", "2"):
        tree(fast.dir / tag, tag)
        (fast.dir / f"{tag}.containerfile").write_text(f"FROM scratch\nCOPY {tag} /data\n")
        for command in (["build", "-q", "-f", f"{fast.dir}/{tag}.containerfile", "-t", f"made:{tag}", str(fast.dir)],
                        ["push", "-q", "--tls-verify=false", "--compression-format", "zstd:chunked", f"made:{tag}",
                         f"127.0.0.1:{fast.registry.port}/acme/app:{tag}"]):
            said = subprocess.run([*built, *command], env=ENVIRONMENT, capture_output=True, text=True)
            if said.returncode:
                pytest.skip(f"this podman cannot make it here: {said.stderr}")
    ways = {"direct": (f"localhost:{fast.nginx}/acme/app", {}),
            "seawall": ("docker.io/acme/app", {"HTTPS_PROXY": f"http://127.0.0.1:{fast.port}", "SSL_CERT_FILE": f"{fast.dir}/data/ca/ca.crt"})}
    moved = {}
    for way, (image, more) in ways.items():
        storage = fast.dir / f"{way}.conf"
        storage.write_text(STORAGE.format(dir=f"{short}/{way}"))
        for tag in ("1", "2"):
            before = fast.sent()[1]
            pull = [podman, "--log-level=debug", "--root", f"{short}/{way}", "--runroot", f"{short}/{way}-run", "pull", "-q",
                    *(["--tls-verify=false"] if way == "direct" else []), f"{image}:{tag}"]
            said = subprocess.run(pull, env=ENVIRONMENT | more | {"CONTAINERS_STORAGE_CONF": str(storage)}, capture_output=True, text=True)
            if any("partial blob" in line and "not supported" in line for line in said.stderr.splitlines()):
                pytest.skip("this podman's storage takes no partial images here")
            assert said.returncode == 0, said.stderr
            fast.rest()
            moved[way, tag] = fast.sent()[1] - before
    print(moved)
    assert moved["direct", "2"] < moved["direct", "1"] / 5, f"podman asks for parts: {moved}"
    assert moved["seawall", "2"] < 1.5 * moved["direct", "2"], moved


CONTAINERD = """
version = 3
root = "{short}/root"
state = "{short}/state"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]
[grpc]
  address = "{short}/sock"
[plugins."io.containerd.transfer.v1.local"]
  concurrent_layer_fetch_buffer = 8388608
  max_concurrent_downloads = 4
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "linux/amd64"
    snapshotter = "native"
"""


def test_containerd_fetches_a_layer_in_parts_as_fast_as_without_seawall(slow, stack):
    """containerd 2.1 and later, from a cold cache. CONTAINERD: the directory of its programs, if they are not in the PATH."""
    where = os.environ.get("CONTAINERD", os.environ["PATH"])
    containerd, ctr = (shutil.which(name, path=where) for name in ("containerd", "ctr"))
    version = subprocess.run([containerd, "--version"], capture_output=True, text=True).stdout if containerd else ""
    if not re.search(r"v?2\.([1-9]|\d\d)", version) or os.geteuid():
        pytest.skip(f"no containerd 2.1 or later that root can start: {version or 'none'}; see CONTRIBUTING.md")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo("data")
        entry.size = 48 * MIB
        archive.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    layer = slow.registry.push("acme/app", tar.getvalue()) | {"mediaType": "application/vnd.oci.image.layer.v1.tar"}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}).encode()
    config = slow.registry.push("acme/app", config) | {"mediaType": "application/vnd.oci.image.config.v1+json"}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}).encode()
    slow.registry.send("PUT", "/v2/acme/app/manifests/1", manifest, {"Content-Type": MANIFEST})
    trust = {"SSL_CERT_FILE": f"{slow.dir}/ca.crt"}
    ways = {"direct": (f"{HOST}:{slow.nginx}/acme/app:1", trust),
            "seawall": ("docker.io/acme/app:1", {"HTTPS_PROXY": f"http://127.0.0.1:{slow.port}", "SSL_CERT_FILE": f"{slow.dir}/data/ca/ca.crt"})}
    took, asked = {}, {}
    for way, (image, more) in ways.items():
        short = stack.enter_context(tempfile.TemporaryDirectory(prefix="e2e-", ignore_cleanup_errors=True))
        (slow.dir / f"{way}.toml").write_text(CONTAINERD.format(short=short))
        hosts = slow.dir / "hosts" / f"{HOST}:{slow.nginx}"
        hosts.mkdir(parents=True, exist_ok=True)
        (hosts / "hosts.toml").write_text(f'server = "https://{HOST}:{slow.nginx}"\n[host."https://127.0.0.1:{slow.nginx}"]\nskip_verify = true\n')
        process = subprocess.Popen([containerd, "--config", f"{slow.dir}/{way}.toml"], env=ENVIRONMENT | more, cwd=slow.dir,
                                   stdout=open(slow.dir / f"{way}.log", "w"), stderr=subprocess.STDOUT)
        try:
            command = [ctr, "--address", f"{short}/sock"]
            until = time.monotonic() + 30
            while subprocess.run([*command, "version"], env=ENVIRONMENT, capture_output=True).returncode:
                assert process.poll() is None and time.monotonic() < until, (slow.dir / f"{way}.log").read_text()
                time.sleep(0.1)
            before, began = slow.sent(), time.monotonic()
            pull = [*command, "images", "pull", "--platform", "linux/amd64", "--snapshotter", "native",
                    *(["--hosts-dir", f"{slow.dir}/hosts"] if way == "direct" else []), image]
            said = subprocess.run(pull, env=ENVIRONMENT | more, capture_output=True, text=True)
            took[way] = time.monotonic() - began
            assert said.returncode == 0, said.stderr + (slow.dir / f"{way}.log").read_text()
        finally:
            process.terminate()
            process.wait(20)
        slow.rest()
        ranges, sent = slow.sent()
        asked[way] = ([part for part in ranges[len(before[0]):]], sent - before[1])
    print({way: (round(took[way], 1), len(asked[way][0]), asked[way][1]) for way in ways})
    assert sum(part != "-" for part in asked["direct"][0]) > 1, f"it asks for parts: {asked}"
    assert asked["seawall"][1] < 1.05 * asked["direct"][1], asked
    assert took["seawall"] < 1.5 * took["direct"], took
