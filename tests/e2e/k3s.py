#!/usr/bin/python3
"""containerd's hosts.toml of a registries.yaml, as K3s makes them (k3s docs, "Private Registry Configuration"; k3s pkg/agent/containerd/config.go).

    k3s.py REGISTRIES_YAML DIRECTORY

`*` becomes _default; an endpoint with a path of its own gets override_path, and its registry's TLS settings; rewrite goes to every endpoint. K3s
appends the registry itself by `server`, unless it was started with --disable-default-registry-endpoint, and so does this.
"""

import pathlib
import sys
from urllib.parse import urlsplit

import yaml

source, directory = sys.argv[1:]
given = yaml.safe_load(pathlib.Path(source).read_text()) or {}
configs = given.get("configs") or {}
unknown = set(given) - {"mirrors", "configs", "auths"}
assert not unknown, f"K3s would not understand {unknown}"


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def host(endpoint, rewrites):
    url = urlsplit(endpoint if "://" in endpoint else "//" + endpoint, scheme="https")
    own_path = url.path not in ("", "/", "/v2")
    address = f"{url.scheme}://{url.netloc}{url.path if own_path else '/v2'}"
    yield f"[host.{quoted(address)}]"
    yield '  capabilities = ["pull", "resolve"]'
    if own_path:
        yield "  override_path = true"
    tls = (configs.get(url.netloc) or {}).get("tls") or {}
    if tls.get("ca_file"):
        yield f"  ca = [{quoted(tls['ca_file'])}]"
    if tls.get("insecure_skip_verify"):
        yield "  skip_verify = true"
    if rewrites:
        yield f"  [host.{quoted(address)}.rewrite]"
        for pattern, to in rewrites.items():
            yield f"    {quoted(pattern)} = {quoted(to)}"


for name, mirror in (given.get("mirrors") or {}).items():
    lines = []
    if name != "*":
        lines.append(f"server = {quoted('https://' + ('index.docker.io' if name == 'docker.io' else name) + '/v2')}")
    for endpoint in (mirror or {}).get("endpoint") or []:
        lines += host(endpoint, mirror.get("rewrite"))
    to = pathlib.Path(directory, "_default" if name == "*" else name)
    to.mkdir(parents=True, exist_ok=True)
    (to / "hosts.toml").write_text("\n".join(lines) + "\n")
