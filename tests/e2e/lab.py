"""What the Python cases share: processes of their own on loopback, and Debian's docker-registry with images in it."""

import hashlib
import http.client
import json
import os
import random
import socket
import subprocess
import time
import urllib.parse

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# Go's and curl's: what this machine says of roots is not for servers of our own.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("SSL_CERT_")}

CONFIGURATION = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {dir}/registry}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}, relativeurls: true}}
"""


def free_port():
    """Below those that the kernel gives to clients: none of them takes it before it is used."""
    while True:
        port = random.randrange(18000, 30000)
        if not is_open(port):
            return port


def is_open(port):
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Processes:
    """Those that were started; all are stopped in the end, the last one first."""

    def __init__(self, directory):
        self.dir, self.running = directory, []

    def start(self, name, command, port=None, **more):
        """Waits until it listens on `port`."""
        file = self.dir / f"{name}.log"
        log = open(file, "w")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=more.pop("stdout", log), stderr=log, cwd=self.dir,
                                   env=ENVIRONMENT, **more)
        self.running.append(process)
        until = time.monotonic() + 30
        while port and not is_open(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{name} does not start: {file.read_text()}")
            time.sleep(0.05)
        return process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.terminate()
        for process in reversed(self.running):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Registry:
    """docker-registry, and what is pushed straight into it."""

    def __init__(self, processes):
        self.port = free_port()
        file = processes.dir / "registry.yml"
        file.write_text(CONFIGURATION.format(dir=processes.dir, port=self.port))
        processes.start("registry", ["docker-registry", "serve", str(file)], self.port)

    def image(self, repository, tag, *layers, config=b"{}"):
        """The digest of an image of these layers."""
        config, *layers = (self.push(repository, blob) for blob in (config, *layers))
        config["mediaType"] = "application/vnd.oci.image.config.v1+json"
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).encode()
        self.send("PUT", f"/v2/{repository}/manifests/{tag}", manifest, {"Content-Type": MANIFEST})
        return digest_of(manifest)

    def push(self, repository, content):
        """The descriptor of a blob that is in the registry now."""
        described = {"mediaType": "application/octet-stream", "digest": digest_of(content), "size": len(content)}
        where = urllib.parse.urlsplit(self.send("POST", f"/v2/{repository}/blobs/uploads/").headers["location"])
        query = f"{where.query}&digest={described['digest']}"
        self.send("PUT", f"{where.path}?{query}", content, {"Content-Type": "application/octet-stream"})
        return described

    def send(self, method, path, body=None, fields={}):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, fields)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status not in (201, 202):
            raise RuntimeError(f"docker-registry answers {answer.status} to {method} {path}: {said}")
        return answer
