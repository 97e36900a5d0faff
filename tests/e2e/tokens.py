#!/usr/bin/python3
"""The token service of the end-to-end test: https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/.

    tokens.py DIRECTORY ADDRESS TLS_CERT TLS_KEY SIGNER_CERT SIGNER_KEY

DIRECTORY/accounts has a line `name password` each, read anew for every request. Who may what:

    public/*    pulled by everybody            alice/*, bob/*   pulled by alice, by bob
    admin       pulls and pushes everything    ci               pulls everything: what an operator's account can do

Written there, for the test to read: log (METHOD ACCOUNT WANTED -> GRANTED, a line a request; `-` is nobody, `!name` was refused)
and issued.ACCOUNT (each token that was handed out, a line each, refresh tokens too).
"""

import base64
import json
import pathlib
import secrets
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

DIRECTORY, ADDRESS, TLS_CERT, TLS_KEY, SIGNER_CERT, SIGNER_KEY = sys.argv[1:]
DIRECTORY = pathlib.Path(DIRECTORY)
LIFE = 300  # seconds
SIGNER = pathlib.Path(SIGNER_KEY).read_text()
CHAIN = [base64.b64encode(x509.load_pem_x509_certificate(pathlib.Path(SIGNER_CERT).read_bytes()).public_bytes(Encoding.DER)).decode()]
LOCK = threading.Lock()
REFRESH = {}  # refresh token -> account


class Refused(Exception):
    """A wrong password, or a refresh token that is none of ours; carries who it said it was."""


def write(name, line):
    with LOCK, open(DIRECTORY / name, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def login(name, password):
    accounts = dict(line.split(" ", 1) for line in (DIRECTORY / "accounts").read_text().splitlines())
    if name not in accounts or not secrets.compare_digest(accounts[name].encode(), password.encode()):
        raise Refused(name)
    return name


def may(account, repository):
    """The actions that an account has on a repository."""
    if account == "admin":
        return {"pull", "push"}
    owner = repository.split("/")[0]
    return {"pull"} if owner == "public" or account == "ci" or account == owner else set()


def grant(account, scopes):
    access = []
    for kind, name, actions in (scope.split(":", 2) for scope in scopes):
        granted = sorted(set(actions.split(",")) & may(account, name)) if kind == "repository" else []
        if granted:
            access.append({"type": kind, "name": name, "actions": granted})
    return access


def token(account, service, access):
    now = int(time.time())
    claims = {"iss": "e2e", "sub": account, "aud": service, "iat": now, "nbf": now - 60, "exp": now + LIFE, "jti": secrets.token_hex(16)}
    signed = jwt.encode({**claims, "access": access}, SIGNER, algorithm="RS256", headers={"x5c": CHAIN})
    write(f"issued.{account or '-'}", signed)
    return signed


def refresh_token(account):
    made = secrets.token_urlsafe(24)
    REFRESH[made] = account
    write(f"issued.{account}", made)
    return made


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, account, fields, offline):
        scopes = [scope for given in fields.get("scope", []) for scope in given.split()]
        access = grant(account, scopes)
        said = [f"{a['type']}:{a['name']}:{','.join(a['actions'])}" for a in access]
        write("log", f"{self.command} {account or '-'} {' '.join(scopes) or '-'} -> {' '.join(said) or 'nothing'}")
        signed = token(account, fields.get("service", [""])[0], access)
        body = {"token": signed, "access_token": signed, "expires_in": LIFE, "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        if offline and account:
            body["refresh_token"] = refresh_token(account)
        self.reply(200, body)

    def refuse(self, refused):
        write("log", f"{self.command} !{refused} - -> 401")
        self.reply(401, {"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]})

    def do_GET(self):
        where = urlsplit(self.path)
        if where.path != "/token":
            return self.reply(404, {})
        fields = parse_qs(where.query)
        account = ""
        try:
            scheme, _, given = self.headers.get("Authorization", "").partition(" ")
            if scheme.lower() == "basic":
                account = login(*base64.b64decode(given).decode().split(":", 1))
            elif scheme:
                raise Refused(scheme)
        except Refused as refused:
            return self.refuse(refused)
        return self.answer(account, fields, "true" in fields.get("offline_token", []))

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if urlsplit(self.path).path != "/token":
            return self.reply(404, {})
        fields = parse_qs(body)

        def one(name):
            return fields.get(name, [""])[0]

        try:
            if one("grant_type") == "password":
                account = login(one("username"), one("password"))
            elif one("grant_type") == "refresh_token" and one("refresh_token") in REFRESH:
                account = REFRESH[one("refresh_token")]
            else:
                raise Refused(one("grant_type") or "nothing")
        except Refused as refused:
            return self.refuse(refused)
        return self.answer(account, fields, one("access_type") == "offline")


server = ThreadingHTTPServer((ADDRESS, 443), Service)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(TLS_CERT, TLS_KEY)
server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)  # in the connection's own thread
server.daemon_threads = True
server.serve_forever()
