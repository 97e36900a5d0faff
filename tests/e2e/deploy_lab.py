"""A registry with one image over plain HTTP, and a name server that knows where it is: for tests/e2e/deploy.sh.

  deploy_lab.py ADDRESS LOG    registry at ADDRESS:5000, DNS at 127.0.0.1:53 (`lab.test` is ADDRESS, nothing else is); each request is a line of LOG
"""

import hashlib
import http.server
import json
import socket
import struct
import sys
import threading

ADDRESS, LOG = sys.argv[1], open(sys.argv[2], "a", buffering=1)
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


MANIFEST = json.dumps({
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(CONFIG), "size": len(CONFIG)},
    "layers": [],
}).encode()
BODIES = {
    "/v2/": (b"{}", "application/json"),
    "/v2/app/manifests/1": (MANIFEST, "application/vnd.oci.image.manifest.v1+json"),
    "/v2/app/manifests/" + digest(MANIFEST): (MANIFEST, "application/vnd.oci.image.manifest.v1+json"),
    "/v2/app/blobs/" + digest(CONFIG): (CONFIG, "application/octet-stream"),
}


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body, kind = BODIES.get(self.path, (b'{"errors":[{"code":"NAME_UNKNOWN"}]}', None))
        LOG.write(f"{self.command} {self.path} {self.headers['Host']}\n")
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "application/json")
        self.send_header("Content-Length", str(len(body)))
        if kind:
            self.send_header("Docker-Content-Digest", digest(body))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def names():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 53))
    while True:
        query, peer = udp.recvfrom(512)
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        kind = struct.unpack("!H", query[at + 1:at + 3])[0]
        name, question = ".".join(labels).lower(), query[12:at + 5]
        LOG.write(f"DNS {name} {kind}\n")
        known = name == "lab.test"
        answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(ADDRESS) if known and kind == 1 else b""
        udp.sendto(query[:2] + struct.pack("!HHHHH", 0x8180 if known else 0x8183, 1, bool(answer), 0, 0) + question + answer, peer)


threading.Thread(target=names, daemon=True).start()
http.server.ThreadingHTTPServer((ADDRESS, 5000), Registry).serve_forever()
