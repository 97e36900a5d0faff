"""A siege: strangers at twenty addresses do the worst that they can, all of it at once, while honest clients pull.

    SEAWALL=target/release/seawall python3 tests/e2e/siege.py --seconds 60

Options: --seconds (60), --slowest (5: seconds that an honest warm pull may take), --rss (640: MiB), --only ATTACK (may be repeated; else all
that siege_attacks.py has), --trace FILE (a line a second, then what became of the attacks). Needs Debian's docker-registry; where it is not
there, that is said, and nothing else is done.

Two seawalls stand in front of one registry: `open`, and `guarded`, which wants passwords. The attacks, and the registries that help them, are in
siege_attacks.py, a process of its own, so that what they cost is not in the honest clients' times.

What must hold (exit code 0):

    pulls           every one ends, with the right bytes, in `--slowest` seconds
    memory          at most `--rss` MiB in each process
    disk            blobs and partial files are at most `max_size` and a tenth
    descriptors     64 below the process's limit at least
    attacks         each kind got through, or was beaten off by a 503, once or more; else this was no siege
"""

import argparse
import base64
import collections
import contextlib
import http.client
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import ssl
import sys
import tempfile
import threading
import time

from lab import MANIFEST, Processes, Registry, digest_of, free_port

SEAWALL = pathlib.Path(os.environ.get("SEAWALL", "target/release/seawall")).resolve()
MIB = 1 << 20
MAX_SIZE = 256 * MIB
STRANGERS = 20
DESCRIPTORS = (1200, 4096)  # soft and hard
TOO_MUCH = 4096  # MiB of one process's memory at which this machine is in danger
REST = 15  # seconds after which what was taken must be back
VICES = ("slow", "cut", "cold", "tiny", "moving")
USER, PASSWORD = "honest", "honest"
USERS = f"{USER}:$2b$10$fVrTGl8El44iRk9N3fpoFOvXyd/xetMx5CgFvOmKEA0bnPB3Lluzm\n"

CONFIGURATION = """
listen = ["127.0.0.1:{port}"]
admin = ""
data = "{dir}/{name}"
[clients]
users_file = "{users}"
[cache]
max_size = "{max_size}B"
min_free = "1MiB"
[cache.tags]
ttl = "1s"
rules = []
"""

UPSTREAM = """
[[registry]]
name = "{name}"
hosts = ["{name}.test"]
auth_hosts = []
upstreams = [{{ url = "http://127.0.0.1:{port}" }}]
"""


def limit_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, DESCRIPTORS)


class Seawall:
    """One that runs, and what it has taken."""

    def __init__(self, world, name, users=""):
        self.port, self.data = free_port(), world.dir / name
        file = world.dir / f"{name}.toml"
        upstreams = {"lab": world.registry.port} | world.accomplices
        text = CONFIGURATION.format(port=self.port, dir=world.dir, name=name, users=users, max_size=MAX_SIZE)
        file.write_text(text + "".join(UPSTREAM.format(name=upstream, port=port) for upstream, port in upstreams.items()))
        command = [str(SEAWALL), "serve", "--config", str(file)]
        self.name, self.process = name, world.processes.start(name, command, self.port, preexec_fn=limit_descriptors)
        self.proc = pathlib.Path(f"/proc/{self.process.pid}")
        limits = (self.proc / "limits").read_text()
        self.limit = next(int(line.split()[3]) for line in limits.splitlines() if line.startswith("Max open files"))

    def rss(self):
        """MiB in memory."""
        status = (self.proc / "status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def descriptors(self):
        return len(os.listdir(self.proc / "fd"))

    def disk(self):
        """MiB of blobs and partial files, as the file system counts them."""
        blocks = 0
        for part in ("blobs", "partial"):
            for directory, _, files in os.walk(self.data / part):
                for file in files:
                    with contextlib.suppress(FileNotFoundError):
                        blocks += os.lstat(f"{directory}/{file}").st_blocks
        return blocks * 512 / MIB


class World:
    """docker-registry with an image and a large blob, and two seawalls in front of it and of the strangers' registries."""

    def __init__(self, directory, processes):
        self.dir, self.processes = directory, processes
        self.registry = Registry(processes)
        self.accomplices = {vice: free_port() for vice in VICES}
        (directory / "users").write_text(USERS)
        config, *layers = (random.Random(size).randbytes(size) for size in (2000, 40_000, MIB, 2 * MIB))
        self.manifest = self.registry.image("acme/app", "1", *layers, config=config)
        self.big = self.registry.push("acme/big", random.Random("big").randbytes(32 * MIB))["digest"]
        self.seawalls = {"open": Seawall(self, "open"), "guarded": Seawall(self, "guarded", directory / "users")}

    def attack(self, seconds, only, rounds):
        target = {name: seawall.port for name, seawall in self.seawalls.items()}
        target |= {"seconds": seconds, "strangers": STRANGERS, "only": only, "big": self.big, "registries": self.accomplices}
        program = pathlib.Path(__file__).with_name("siege_attacks.py")
        return self.processes.start("attacks", [sys.executable, str(program), json.dumps(target)], stdout=rounds)


class Wrong(Exception):
    """An answer that is not what was pushed."""


class Honest(threading.Thread):
    """A client that pulls `acme/app:1` again and again, through CONNECT and TLS or from the mirror."""

    def __init__(self, world, address, seawall, way, over):
        super().__init__(daemon=True)
        self.world, self.address, self.seawall, self.way, self.over = world, address, seawall, way, over
        self.took, self.failed = [], collections.Counter()
        said = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self.login = f"Basic {said}" if seawall.name == "guarded" else None

    def run(self):
        while not self.over.is_set():
            began = time.monotonic()
            try:
                self.pull()
            except (OSError, http.client.HTTPException, Wrong) as error:
                self.failed[f"{type(error).__name__}: {error}"] += 1
            self.took.append(time.monotonic() - began)
            time.sleep(random.uniform(0.1, 0.3))

    def connect(self):
        where = {"host": "127.0.0.1", "port": self.seawall.port, "timeout": 30, "source_address": (self.address, 0)}
        if self.way == "mirror":
            return http.client.HTTPConnection(**where)
        context = ssl.create_default_context(cafile=self.seawall.data / "ca/ca.crt")
        connection = http.client.HTTPSConnection(**where, context=context)
        connection.set_tunnel("lab.test", 443, {"Proxy-Authorization": self.login} if self.login else {})
        return connection

    def pull(self):
        with contextlib.closing(self.connect()) as connection:
            manifest = json.loads(self.get(connection, "app/manifests/1", self.world.manifest))
            for blob in [manifest["config"], *manifest["layers"]]:
                self.get(connection, f"app/blobs/{blob['digest']}", blob["digest"])

    def get(self, connection, path, digest):
        fields = {"Accept": MANIFEST} | ({"Authorization": self.login} if self.login and self.way == "mirror" else {})
        prefix = "/v2/lab/acme" if self.way == "mirror" else "/v2/acme"
        connection.request("GET", f"{prefix}/{path}", headers=fields)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise Wrong(f"{answer.status} to {path}: {content[:200]}")
        if digest_of(content) != digest:
            raise Wrong(f"wrong bytes of {path}")
        return content


class Figures:
    """The most that was taken, by any of the seawalls, and the sentences about it."""

    def __init__(self, seawalls, trace):
        self.seawalls, self.trace, self.began = seawalls, trace, time.monotonic()
        self.rss = self.descriptors = self.disk = 0
        self.broken, self.early = [], False

    def sample(self, honest):
        seconds = time.monotonic() - self.began
        for seawall in self.seawalls:
            if seawall.process.poll() is not None:
                sys.exit(f"seawall {seawall.name} ended with {seawall.process.returncode} after {seconds:.0f} s")
            rss, descriptors, disk = seawall.rss(), seawall.descriptors(), seawall.disk()
            self.rss, self.descriptors, self.disk = max(self.rss, rss), max(self.descriptors, descriptors), max(self.disk, disk)
            slowest = max((client.took[-1] for client in honest if client.seawall is seawall and client.took), default=0)
            print(f"{seconds:.0f} s {seawall.name}: RSS {rss:.0f} MiB, {descriptors} descriptors, disk {disk:.0f} MiB, {slowest:.2f} s a pull",
                  file=self.trace, flush=True)

    def most(self, what, value, bound, unit):
        if value > bound:
            self.broken.append(f"{what} reached {value:.0f}{unit}; the bound is {bound:.0f}{unit}")

    def judge(self, arguments, took, failed, rounds):
        """A sentence for each bound that is broken."""
        for why, times in failed.most_common(5):
            self.broken.append(f"honest pulls failed, {times} of {len(took)}: {why}")
        if took[-1] > arguments.slowest:
            self.broken.append(f"the slowest honest pull took {took[-1]:.2f} s; the bound is {arguments.slowest:g} s")
        self.most("memory", self.rss, arguments.rss, " MiB")
        self.most("the disk", self.disk, 1.1 * MAX_SIZE / MIB, " MiB")
        self.most("open files", self.descriptors, self.seawalls[0].limit - 64, "")
        for attack, ends in (dict.fromkeys(arguments.only, {}) | rounds).items():
            if not self.early and not {"done", "Refused 503"} & set(ends):
                # With the bounds in place it may have no round to an end; alone (--only) it has to.
                said = f"the attack {attack} never got through, so that nothing was tried: {ends}"
                self.broken.append(said) if arguments.only else print(said, file=sys.stderr)
        return self.broken


def watch(figures, honest, attacks, log, seconds):
    """Samples each second until the attackers are gone; ends them early where seawall would take the machine with it."""
    until = time.monotonic() + seconds + 20
    while attacks.poll() is None and time.monotonic() < until:
        figures.sample(honest)
        if figures.rss > TOO_MUCH and not figures.early:
            figures.broken.append(f"more than {TOO_MUCH} MiB of memory were taken: the siege was ended before its time")
            figures.early = True
            attacks.terminate()
        time.sleep(1)
    if attacks.poll() != 0:
        sys.exit(f"the attackers ended with {attacks.returncode}: {log.read_text()}")


def siege(arguments, directory, processes, trace):
    world = World(directory, processes)
    seawalls = list(world.seawalls.values())
    over = threading.Event()
    ways = [(seawall, way) for seawall in seawalls for way in ("proxy", "mirror")]
    honest = [Honest(world, address, *way, over) for way, address in zip(ways * 2, ["127.0.0.1", *(f"127.2.0.{n}" for n in range(1, 8))])]
    for client in honest:
        client.pull()  # warm from here on
    honest[1].get(honest[1].connect(), f"big/blobs/{world.big}", world.big)
    figures = Figures(seawalls, trace)
    with open(directory / "rounds", "w+") as rounds:
        attacks = world.attack(arguments.seconds, arguments.only, rounds)
        for client in honest:
            client.start()
        watch(figures, honest, attacks, directory / "attacks.log", arguments.seconds)
        over.set()
        lasted = time.monotonic() - figures.began
        for client in honest:
            client.join()
        time.sleep(REST)
        rounds.seek(0)
        ended = json.load(rounds)
    print(*(f"{attack}: {ends}" for attack, ends in ended.items()), sep="\n", file=trace, flush=True)
    took = sorted(seconds for client in honest for seconds in client.took)
    broken = figures.judge(arguments, took, sum((client.failed for client in honest), collections.Counter()), ended)
    print(f"siege: {lasted:.0f} s, {STRANGERS} attackers, {len(took)} pulls, slowest {took[-1]:.2f} s, p99 {took[len(took) * 99 // 100]:.2f} s, "
          f"RSS {figures.rss:.0f} MiB at most, {max(one.rss() for one in seawalls):.0f} MiB after, {figures.descriptors} descriptors at most, "
          f"{max(one.descriptors() for one in seawalls)} after, disk {figures.disk:.0f} MiB")
    return broken


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--slowest", type=float, default=5.0)
    parser.add_argument("--rss", type=int, default=640)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--trace", type=argparse.FileType("w"), default=os.devnull)
    arguments = parser.parse_args()
    if not shutil.which("docker-registry"):
        print("skipped: docker-registry is not installed")
        return
    if not SEAWALL.exists():
        sys.exit(f"no seawall at {SEAWALL}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="seawall-siege.") as directory, Processes(pathlib.Path(directory)) as processes:
        broken = siege(arguments, pathlib.Path(directory), processes, arguments.trace)
    for sentence in broken:
        print(sentence, file=sys.stderr)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
