#!/usr/bin/python3
"""A registry that has its days: TLS in front of the real one, which it passes on to but for what it is told to do instead.

    fault.py DIRECTORY ADDRESS ORIGIN TLS_CERT TLS_KEY

DIRECTORY/mode is read anew for every request:

    pass                nothing
    limited SECONDS     Docker Hub's pull limit: GETs of manifests get 429, 0 of 100 pulls left in a window of so many seconds; a HEAD is
                        answered, with the same figures
    limited-at-once SECONDS
                        its abuse limit: 429 in plain text to everything, Retry-After
    hang                takes the request, and never answers

Written there, for the test to read: log (METHOD PATH STATUS, a line a request; `-` is no answer).
"""

import http.client
import json
import pathlib
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DIRECTORY, ADDRESS, ORIGIN, TLS_CERT, TLS_KEY = sys.argv[1:]
DIRECTORY = pathlib.Path(DIRECTORY)
LOCK = threading.Lock()
HOST = "registry-1.docker.io"
SAID = "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
TO_ORIGIN = ssl.create_default_context()
TO_ORIGIN.check_hostname, TO_ORIGIN.verify_mode = False, ssl.CERT_NONE  # ours, on this machine
HOP = {"connection", "transfer-encoding", "keep-alive", "host"}


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def write(self, status):
        with LOCK, open(DIRECTORY / "log", "a", encoding="utf-8") as file:
            file.write(f"{self.command} {self.path} {status}\n")

    def reply(self, status, headers, body):
        self.write(status)
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer(self):
        mode, *words = (DIRECTORY / "mode").read_text().split()
        counted = self.command == "GET" and "/manifests/" in self.path
        if mode == "hang":
            self.write("-")
            threading.Event().wait()
        elif mode == "limited-at-once":
            body = b"429 Too Many Requests"
            self.reply(429, [("Content-Type", "text/plain"), ("Content-Length", len(body)), ("Retry-After", words[0])], body)
        elif mode == "limited" and counted and self.headers.get("Authorization"):
            body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": SAID}]}).encode()
            self.reply(429, [("Content-Type", "application/json"), ("Content-Length", len(body)), *figures(words[0])], body)
        else:
            self.pass_on(figures(words[0]) if mode == "limited" and "/manifests/" in self.path else [])

    def pass_on(self, more):
        connection = http.client.HTTPSConnection(ORIGIN, 443, timeout=60, context=TO_ORIGIN)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection.request(self.command, self.path, body, {**{k: v for k, v in self.headers.items() if k.lower() not in HOP}, "Host": HOST})
        reply = connection.getresponse()
        headers = [(k, v) for k, v in reply.getheaders() if k.lower() not in HOP]
        self.reply(reply.status, headers + (more if reply.status in (200, 404) else []), reply.read())
        connection.close()

    do_GET = do_HEAD = do_POST = answer


def figures(window):
    return [("RateLimit-Limit", f"100;w={window}"), ("RateLimit-Remaining", f"0;w={window}"), ("Docker-RateLimit-Source", "203.0.113.7")]


server = ThreadingHTTPServer((ADDRESS, 443), Registry)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(TLS_CERT, TLS_KEY)
server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)  # in the connection's own thread
server.daemon_threads = True
server.serve_forever()
