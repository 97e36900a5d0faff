"""Registries as they really are, with Debian's own nginx, docker-registry, curl and podman, on loopback.

    SEAWALL=target/release/seawall python3 -m pytest tests/e2e/test_registries.py

Needs: nginx, docker-registry, openssl, curl (Debian's packages); what is not there is skipped, and said so.
"""

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import urllib.request

import pytest

from lab import ENVIRONMENT, MANIFEST, Processes, Registry, digest_of, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEAWALL = pathlib.Path(os.environ.get("SEAWALL", "target/release/seawall")).resolve()
# The name is led to nginx: nothing leaves this machine.
HOST = "registry-1.docker.io"
NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log {dir}/access.log; client_max_body_size 0; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{
    listen 127.0.0.1:{port} ssl http2; server_name {host};
    ssl_certificate {dir}/leaf.crt; ssl_certificate_key {dir}/leaf.key;
    keepalive_requests {requests};
    location /v2/ratelimitpreview/ {{
      proxy_pass http://127.0.0.1:{registry}; proxy_set_header Host {host};
      add_header ratelimit-limit "100;w=21600"; add_header ratelimit-remaining "76;w=21600"; add_header docker-ratelimit-source 192.0.2.7;
    }}
    location / {{ proxy_pass http://127.0.0.1:{registry}; proxy_set_header Host {host}; proxy_request_buffering off; }}
  }}
}}
"""

CONFIGURATION = """
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
data = "{dir}/data"
[upstream]
ca_file = "{dir}/ca.crt"
[[registry]]
name = "docker.io"
hosts = ["{host}"]
auth_hosts = []
upstreams = [{{ url = "https://{host}:{nginx}" }}]
[upstream.hosts]
"{host}" = "127.0.0.1:{nginx}"
"""


STORAGE = """
[storage]
driver = "overlay"
runroot = "{dir}/run"
graphroot = "{dir}/graph"
[storage.options]
pull_options = {{enable_partial_images = "true", use_hard_links = "false", ostree_repos = ""}}
"""


def run(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT, **more)


def certificates(to):
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=e2e root",
        "-keyout", f"{to}/ca.key", "-out", f"{to}/ca.crt")
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=e2e leaf", "-keyout", f"{to}/leaf.key", "-out", f"{to}/leaf.csr")
    (to / "names").write_text(f"subjectAltName=DNS:{HOST}\n")
    run("openssl", "x509", "-req", "-in", f"{to}/leaf.csr", "-CA", f"{to}/ca.crt", "-CAkey", f"{to}/ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", f"{to}/names", "-out", f"{to}/leaf.crt")


class World:
    """docker-registry behind nginx (HTTP/2), behind seawall."""

    def __init__(self, processes, requests):
        self.dir, self.processes = processes.dir, processes
        self.port, self.admin, nginx = free_port(), free_port(), free_port()
        self.registry = Registry(processes)
        certificates(self.dir)
        text = NGINX.format(dir=self.dir, port=nginx, host=HOST, requests=requests, registry=self.registry.port)
        self.start("nginx.conf", text, ["nginx", "-e", f"{self.dir}/error.log", "-c"], nginx)
        text = CONFIGURATION.format(dir=self.dir, port=self.port, admin=self.admin, host=HOST, nginx=nginx)
        self.start("seawall.toml", text, [str(SEAWALL), "serve", "--config"], self.port)

    def start(self, name, text, command, port):
        file = self.dir / name
        file.write_text(text)
        self.processes.start(name, [*command, str(file)], port)

    def curl(self, *arguments, **more):
        """The status, the seconds, the header fields, as curl saw them."""
        command = ["curl", "-sS", "--max-time", "60", "--proxy", f"http://127.0.0.1:{self.port}", "--cacert", f"{self.dir}/data/ca/ca.crt",
                   "-D", "-", "-o", "/dev/null", "-w", "\n%{http_code} %{time_total}", *arguments]
        said = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, **more)
        fields, _, last = said.stdout.rpartition("\n")
        status, seconds = last.split()
        return int(status), float(seconds), fields + said.stderr

    def proxied(self):
        """What a client's environment is: seawall as its proxy, and its root."""
        return ENVIRONMENT | {"HTTPS_PROXY": f"http://127.0.0.1:{self.port}", "SSL_CERT_FILE": f"{self.dir}/data/ca/ca.crt"}

    def served(self):
        """Bytes that clients were sent."""
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics").read().decode()
        return sum(int(line.split()[-1]) for line in metrics.splitlines() if line.startswith("seawall_served_bytes_total"))


@pytest.fixture
def world(tmp_path):
    """Three requests a connection."""
    missing = [name for name in ("nginx", "docker-registry", "openssl", "curl") if not shutil.which(name)]
    if missing or not SEAWALL.exists():
        pytest.skip(f"not here: {missing or SEAWALL}")
    with Processes(tmp_path) as processes:
        yield World(processes, requests=3)


@pytest.fixture
def stack():
    with contextlib.ExitStack() as opened:
        yield opened


def push(world, blob):
    """Pushes a blob as clients do, and says what the last request took."""
    status, _, fields = world.curl("-X", "POST", f"https://{HOST}/v2/acme/app/blobs/uploads/")
    assert status == 202, fields
    location = next(line.split(":", 1)[1].strip() for line in fields.splitlines() if line.lower().startswith("location:"))
    url = location if location.startswith("https://") else f"https://{HOST}{location}"
    joint = "&" if "?" in url else "?"
    return world.curl("-T", str(blob), "-H", "Expect: 100-continue", f"{url}{joint}digest={digest_of(blob.read_bytes())}")


def test_nginx_that_closes_after_three_requests_loses_nothing(world):
    """`keepalive_requests 3` over HTTP/2: GOAWAY, and what it did not process is asked again."""
    with concurrent.futures.ThreadPoolExecutor(20) as clients:
        asked = clients.map(lambda n: world.curl(f"https://{HOST}/v2/acme/app{n}/tags/list"), range(200))
        statuses = [status for status, _, _ in asked]
    assert set(statuses) == {404}, collections.Counter(statuses)
    assert " HTTP/2.0" in (world.dir / "access.log").read_text()


def test_an_upload_over_http_2_does_not_wait_for_what_is_never_said(world):
    """hyper tells of `100 Continue` by HTTP/1.1 alone: each request of a push waited two seconds for it."""
    blob = world.dir / "blob"
    blob.write_bytes(os.urandom(20 << 20))
    status, seconds, fields = push(world, blob)
    assert status == 201, fields
    assert seconds < 1.9, f"{seconds} s"
    assert "PUT /v2/acme/app/blobs/uploads/" in (world.dir / "access.log").read_text()


def test_several_ranges_are_several_parts(world):
    """What containers/storage asks for of a zstd:chunked layer, before it is here and after."""
    blob = world.dir / "blob"
    blob.write_bytes(os.urandom(3 << 20))
    assert push(world, blob)[0] == 201
    digest = digest_of(blob.read_bytes())
    for when in ("on its way", "here"):
        status, _, fields = world.curl("-r", "0-99,1048576-1048675", f"https://{HOST}/v2/acme/app/blobs/{digest}")
        assert status == 206 and "multipart/byteranges" in fields, f"{when}: {fields}"


def test_the_documented_probe_of_the_quota_is_answered_by_the_registry(world):
    """Docker's own words: a HEAD, or a GET, of `ratelimitpreview/test`. Twice: nothing of it is kept."""
    world.registry.image("ratelimitpreview/test", "latest", b"a layer")
    for n in range(2):
        for more in (["--head"], []):
            status, _, fields = world.curl(*more, "-H", f"Accept: {MANIFEST}",
                                           f"https://{HOST}/v2/ratelimitpreview/test/manifests/latest")
            assert status == 200 and "ratelimit-remaining: 76;w=21600" in fields.lower(), f"{n} {more}: {fields}"


def test_regctl_reads_the_quota(world):
    """`regctl image ratelimit`, through HTTPS_PROXY."""
    regctl = next((ROOT / "target/e2e").glob("bin-regctl-*/regctl"), None) or shutil.which("regctl")
    if not regctl:
        pytest.skip("regctl is not here: tests/e2e/run installs it")
    world.registry.image("ratelimitpreview/test", "latest", b"a layer")
    environment = world.proxied() | {"HOME": str(world.dir)}
    for n in range(2):
        said = subprocess.run([regctl, "image", "ratelimit", "docker.io/ratelimitpreview/test"], env=environment, capture_output=True, text=True)
        assert said.returncode == 0 and '"Remain": 76' in said.stdout, f"{n}: {said.stdout}{said.stderr}"


def tree(directory, seed):
    """Two thousand files of 16 KiB: of ten, another content for each seed."""
    directory.mkdir()
    for n in range(2000):
        words = random.Random(f"{n} {seed if n % 200 == 0 else 'same'}")
        (directory / f"{n}").write_bytes(words.randbytes(16 << 10))


def test_podman_fetches_of_a_changed_image_what_changed(world, stack):
    """zstd:chunked: the parts of a layer that are not in another are asked for by ranges, many in one request."""
    podman = shutil.which("podman")
    if not podman:
        pytest.skip("podman is not here")
    short = stack.enter_context(tempfile.TemporaryDirectory(prefix="e2e-"))  # podman's limit: 50 characters
    (world.dir / "storage.conf").write_text(STORAGE.format(dir=short))
    environment = world.proxied() | {"CONTAINERS_STORAGE_CONF": str(world.dir / "storage.conf")}
    direct = {key: value for key, value in environment.items() if "PROXY" not in key}
    called = [podman, "--root", f"{short}/made", "--runroot", f"{short}/made-run"]
    for tag in ("1", "2"):
        tree(world.dir / tag, tag)
        (world.dir / f"{tag}.containerfile").write_text(f"FROM scratch\nCOPY {tag} /data\n")
        for command in (["build", "-q", "-f", f"{world.dir}/{tag}.containerfile", "-t", f"made:{tag}", str(world.dir)],
                        ["push", "-q", "--tls-verify=false", "--compression-format", "zstd:chunked", f"made:{tag}",
                         f"127.0.0.1:{world.registry.port}/acme/app:{tag}"]):
            made = subprocess.run([*called, *command], env=direct, capture_output=True, text=True)
            if made.returncode:
                pytest.skip(f"this podman cannot make it here: {made.stderr}")
    moved = []
    for tag in ("1", "2"):
        before = world.served()
        pull = [podman, "--log-level=debug", "--root", f"{short}/pulled", "--runroot", f"{short}/pulled-run", "pull", "-q", f"docker.io/acme/app:{tag}"]
        said = subprocess.run(pull, env=environment, capture_output=True, text=True)
        if any("partial blob" in line and "not supported" in line for line in said.stderr.splitlines()):
            pytest.skip("this podman's storage takes no partial images here")
        assert said.returncode == 0, said.stderr
        moved.append(world.served() - before)
    assert moved[0] > 30 << 20 and moved[1] < moved[0] / 10, f"{moved} bytes"
