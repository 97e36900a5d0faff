"""Registries as they really are, with Debian's own nginx, docker-registry, curl and podman, on loopback.

    SEAWALL=target/release/seawall python3 -m pytest tests/e2e/test_registries.py

Needs: nginx, docker-registry, openssl, curl (Debian's packages); what is not there is skipped, and said so.
"""

import concurrent.futures
import hashlib
import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest

SEAWALL = pathlib.Path(os.environ.get("SEAWALL", "target/release/seawall")).resolve()
HOST = "registry.e2e.test"
# Go's and curl's: what this machine says of roots is not for servers of our own.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("SSL_CERT_")}

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
    location / {{ proxy_pass http://127.0.0.1:{registry}; proxy_set_header Host {host}; proxy_request_buffering off; }}
  }}
}}
"""

REGISTRY = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {dir}/registry}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}, relativeurls: true}}
"""

CONFIGURATION = """
listen = ["127.0.0.1:{port}"]
admin = ""
data = "{dir}/data"
[upstream]
ca_file = "{dir}/ca.crt"
[[registry]]
name = "lab"
hosts = ["{host}"]
upstreams = [{{ url = "https://{host}:{nginx}" }}]
[upstream.hosts]
"{host}" = "127.0.0.1:{nginx}"
"""


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def answers(port, seconds=15):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as trying:
            if trying.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False


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

    def __init__(self, directory, requests):
        self.dir, self.running = directory, []
        self.port, nginx, registry = free_port(), free_port(), free_port()
        certificates(directory)
        self.start("registry.yml", REGISTRY.format(dir=directory, port=registry), ["docker-registry", "serve"], registry)
        text = NGINX.format(dir=directory, port=nginx, host=HOST, requests=requests, registry=registry)
        self.start("nginx.conf", text, ["nginx", "-e", f"{directory}/error.log", "-c"], nginx)
        text = CONFIGURATION.format(dir=directory, port=self.port, host=HOST, nginx=nginx)
        self.start("seawall.toml", text, [str(SEAWALL), "serve", "--config"], self.port)

    def start(self, name, text, command, port):
        file = self.dir / name
        file.write_text(text)
        log = open(self.dir / f"{name}.log", "w")
        self.running.append(subprocess.Popen([*command, str(file)], stdout=log, stderr=log, env=ENVIRONMENT, cwd=self.dir))
        assert answers(port), (self.dir / f"{name}.log").read_text()

    def curl(self, *arguments, **more):
        """The status, the seconds, the header fields, as curl saw them."""
        command = ["curl", "-sS", "--max-time", "60", "--proxy", f"http://127.0.0.1:{self.port}", "--cacert", f"{self.dir}/data/ca/ca.crt",
                   "-D", "-", "-o", "/dev/null", "-w", "\n%{http_code} %{time_total}", *arguments]
        said = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, **more)
        fields, _, last = said.stdout.rpartition("\n")
        status, seconds = last.split()
        return int(status), float(seconds), fields + said.stderr

    def stop(self):
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            process.wait(20)


@pytest.fixture
def world(tmp_path):
    """Three requests a connection."""
    missing = [name for name in ("nginx", "docker-registry", "openssl", "curl") if not shutil.which(name)]
    if missing or not SEAWALL.exists():
        pytest.skip(f"not here: {missing or SEAWALL}")
    world = World(tmp_path, requests=3)
    yield world
    world.stop()


def push(world, blob):
    """Pushes a blob as clients do, and says what the last request took."""
    status, _, fields = world.curl("-X", "POST", f"https://{HOST}/v2/acme/app/blobs/uploads/")
    assert status == 202, fields
    location = next(line.split(":", 1)[1].strip() for line in fields.splitlines() if line.lower().startswith("location:"))
    url = location if location.startswith("https://") else f"https://{HOST}{location}"
    digest = hashlib.sha256(blob.read_bytes()).hexdigest()
    joint = "&" if "?" in url else "?"
    return world.curl("-T", str(blob), "-H", "Expect: 100-continue", f"{url}{joint}digest=sha256:{digest}")


def test_nginx_that_closes_after_three_requests_loses_nothing(world):
    """`keepalive_requests 3` over HTTP/2: GOAWAY, and what it did not process is asked again."""
    with concurrent.futures.ThreadPoolExecutor(20) as clients:
        asked = clients.map(lambda n: world.curl(f"https://{HOST}/v2/acme/app{n}/tags/list"), range(200))
        statuses = [status for status, _, _ in asked]
    assert set(statuses) == {404}, statuses
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
    digest = hashlib.sha256(blob.read_bytes()).hexdigest()
    for when in ("on its way", "here"):
        status, _, fields = world.curl("-r", "0-99,1048576-1048675", f"https://{HOST}/v2/acme/app/blobs/sha256:{digest}")
        assert status == 206 and "multipart/byteranges" in fields, f"{when}: {fields}"
