"""What the board and the alerts are tried on: registries that do what registries do, two seawalls in front of them, traffic of every kind, and a
Prometheus that watches. For test_board.py.

Prometheus is the one in the PATH, else Debian's package, unpacked into target/e2e: nothing is installed, and no service is made.
"""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from lab import MANIFEST, digest_of, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEAWALL = pathlib.Path(os.environ.get("SEAWALL", "target/release/seawall")).resolve()
CACHE = pathlib.Path(os.environ.get("E2E_CACHE", ROOT / "target/e2e"))
ALERTS = ROOT / "deploy/prometheus/alerts.yaml"

# Loopback but for one address may come; that one is refused.
SEAWALL_TOML = """
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
data = "{dir}/{name}"
[log]
level = "debug"
[clients]
allow = ["127.0.0.1"]
[tunnel]
ports = [{good}]
deny_networks = []
[cache]
min_free = "{min_free}"
[cache.tags]
ttl = "1s"
rules = []
[[registry]]
name = "lab"
upstreams = [{{ url = "http://127.0.0.1:{good}" }}]
[[registry]]
name = "spent"
upstreams = [{{ url = "http://127.0.0.1:{spent}" }}]
[[registry]]
name = "away"
upstreams = [{{ url = "http://127.0.0.1:{away}" }}]
[[registry]]
name = "twice"
upstreams = [{{ url = "http://localhost:{away}" }}, {{ url = "http://localhost:{good}", tags = true }}]
[[registry]]
name = "paid"
username = "acme-ci"
password_file = "{dir}/password"
share = ["*"]
upstreams = [{{ url = "http://127.0.0.1:{guarded}" }}]
"""

PROMETHEUS_YML = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{alerts}"]
scrape_configs:
  - job_name: e2e-seawall
    static_configs: [{{targets: {targets}}}]
"""


class NotHere(Exception):
    """A tool that cannot be had on this machine."""


def prometheus():
    """Where `prometheus` and `promtool` are."""
    if shutil.which("prometheus") and shutil.which("promtool"):
        return pathlib.Path(shutil.which("prometheus")).parent
    unpacked = CACHE / "prometheus"
    if not unpacked.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise NotHere("prometheus: neither it nor apt-get is here")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as new:
            fetched = subprocess.run(["apt-get", "download", "-q", "prometheus"], cwd=new, capture_output=True, text=True, timeout=180)
            package = next(pathlib.Path(new).glob("prometheus_*.deb"), None)
            if fetched.returncode or not package:
                raise NotHere(f"prometheus: Debian's package cannot be had: {fetched.stderr.strip()}")
            subprocess.run(["dpkg-deb", "-x", str(package), f"{new}/unpacked"], check=True)
            os.rename(f"{new}/unpacked", unpacked)
    return unpacked / "usr/bin"


class Fake:
    """A registry with any public image, in a mood that the test sets: `fine`, `failing` (503), `spent` (429) or `guarded` (401)."""

    def __init__(self, mood="fine", limit=100, remaining=30):
        self.mood, self.limit, self.remaining, self.lock = mood, limit, remaining, threading.Lock()
        fake = self

        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                status, fields, body = fake.answer(self.command, self.path)
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, method, path):
        if self.mood == "failing":
            return 503, {}, b""
        if self.mood == "guarded":
            return 401, {"WWW-Authenticate": 'Basic realm="lab"'}, b'{"errors":[{"code":"UNAUTHORIZED"}]}'
        if self.mood == "spent" and path != "/v2/":
            return 429, {"Retry-After": "600", **self.quota()}, json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "pull rate limit"}]}).encode()
        if path == "/v2/" or "/tags/list" in path:
            return 200, {"Content-Type": "application/json"}, b"{}"
        if "/private/" in path:
            return 403, {"Content-Type": "application/json"}, b'{"errors":[{"code":"DENIED"}]}'
        repository, _, what = path.removeprefix("/v2/").partition("/manifests/")
        if not what:
            repository = path.removeprefix("/v2/").partition("/blobs/")[0]
            return 200, {"Content-Type": "application/octet-stream"}, layer(repository)
        manifest = manifest_of(repository)
        if method == "GET":
            with self.lock:
                self.remaining -= 1
        return 200, {"Content-Type": MANIFEST, "Docker-Content-Digest": digest_of(manifest), **self.quota()}, manifest

    def quota(self):
        left = 0 if self.mood == "spent" else self.remaining
        return {"ratelimit-limit": f"{self.limit};w=21600", "ratelimit-remaining": f"{left};w=21600", "docker-ratelimit-source": "192.0.2.7"}


def layer(repository):
    return (repository * 40_000).encode()


def manifest_of(repository):
    blob = layer(repository)
    described = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest_of(blob), "size": len(blob)}
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [described]}).encode()


class Client:
    """Pulls from a seawall's mirror, and does what it should not."""

    def __init__(self, port):
        self.port = port

    def ask(self, path):
        """The status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Accept": MANIFEST})
            answer = connection.getresponse()
            answer.read()
            return answer.status

    def pull(self, registry, repository):
        """The statuses of the manifest and of the layer."""
        return (self.ask(f"/v2/{registry}/{repository}/manifests/1"), self.ask(f"/v2/{registry}/{repository}/blobs/{digest_of(layer(repository))}"))

    def come_from_elsewhere(self):
        """From an address that is not in `clients.allow`."""
        with contextlib.suppress(OSError), socket.socket() as connection:
            connection.bind(("127.0.0.3", 0))
            connection.settimeout(5)
            connection.connect(("127.0.0.1", self.port))
            connection.recv(1)

    def tunnel(self, port):
        """One that stays open."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sendall(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        assert b" 200 " in connection.recv(200), "no tunnel"
        return connection


class World:
    """All of it."""

    def __init__(self, processes):
        self.processes, self.dir, self.programs = processes, processes.dir, prometheus()
        self.good, self.spent, self.guarded = Fake(), Fake(mood="spent"), Fake(mood="guarded")
        password = self.dir / "password"
        password.write_text("gone as soon as they run")
        self.admins, away, clients = [], free_port(), []
        # All of the file system is to be left to others: there is no room.
        for name, min_free in (("one", "1MiB"), ("full", f"{shutil.disk_usage(self.dir).total - 1}B")):
            port, admin = free_port(), free_port()
            file = self.dir / f"{name}.toml"
            file.write_text(SEAWALL_TOML.format(port=port, admin=admin, dir=self.dir, name=name, min_free=min_free,
                                                good=self.good.port, spent=self.spent.port, guarded=self.guarded.port, away=away))
            processes.start(f"seawall-{name}", [str(SEAWALL), "serve", "--config", str(file)], port)
            clients.append(Client(port))
            self.admins.append(f"127.0.0.1:{admin}")
        password.unlink()
        self.client, self.of_full = clients
        self.rounds = 0
        self.start_prometheus()

    def start_prometheus(self):
        self.port, file = free_port(), self.dir / "prometheus.yml"
        file.write_text(PROMETHEUS_YML.format(alerts=ALERTS, targets=json.dumps(self.admins)))
        self.processes.start("prometheus", [str(self.programs / "prometheus"), f"--config.file={file}", f"--storage.tsdb.path={self.dir}/tsdb",
                                            f"--web.listen-address=127.0.0.1:{self.port}"], self.port)

    def run(self):
        """Traffic, again and again: a counter that Prometheus has not seen grow says nothing. An account that fails rests for ten seconds."""
        self.began = time.time()
        while self.rounds < 5 or time.time() < self.began + 15:
            self.traffic()
        self.good.remaining = 7
        self.traffic()
        time.sleep(3)  # until all of it was scraped, and the rules were asked
        self.ended = time.time()

    def traffic(self):
        """One of everything."""
        self.rounds += 1
        new = f"acme/new{self.rounds}"
        assert self.client.pull("lab", new) == (200, 200), "a miss"
        assert self.client.pull("lab", new) == (200, 200), "a hit"
        assert self.client.ask(f"/v2/lab/{new}/tags/list") == 200, "past the cache"
        assert self.client.pull("twice", new) == (200, 200), "from another source"
        assert self.client.ask(f"/v2/paid/{new}/manifests/1") != 200, "an account whose password is not there"
        assert self.of_full.pull("lab", new) == (200, 200), "though there is no room"
        assert self.client.ask("/v2/lab/acme/private/manifests/1") in (401, 403), "what nobody may read"
        assert self.client.ask(f"/v2/{new}/manifests/1?ns=unheard.example") == 404, "a registry that it was not told of"
        assert self.client.ask(f"/v2/spent/{new}/manifests/1") == 429, "a quota that is spent"
        assert self.client.ask(f"/v2/away/{new}/manifests/1") in (502, 504), "a registry that is not there"
        self.client.come_from_elsewhere()
        time.sleep(1.1)  # the ttl of tags
        assert self.client.pull("lab", new) == (200, 200), "once upstream had confirmed it"
        time.sleep(1.1)
        self.good.mood = "failing"
        assert self.client.pull("lab", new) == (200, 200), "a copy"
        self.good.mood = "fine"

    def ask(self, path, **query):
        """What Prometheus answers."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query, doseq=True)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def metrics(self):
        """The names of what both seawalls count, as they are in queries."""
        names = set()
        for admin in self.admins:
            with urllib.request.urlopen(f"http://{admin}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
            names |= {line.partition("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
        return names
