#!/usr/bin/python3
"""The OCI distribution specification's endpoints, asked one after the other: https://github.com/opencontainers/distribution-spec/blob/main/spec.md

    conform.py WORKFLOW URL REPOSITORY [ARGUMENT…]      CURL_… in the environment: see `curl`

WORKFLOW is `push` (end-4 to end-7, end-9 to end-11, end-13), `pull` (end-2, end-3), `ranges` (of blobs) or `discovery` (end-8, end-12). One line a
request: what was asked, the status, and every header and word of the reply that the specification gives a meaning to: the media type is a manifest's
or a list's, an error has codes or none, an upload's id is its own. Where two runs print the same, a client cannot tell the two registries apart. Modelled on the specification's own conformance tests, which no Go module proxy has.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from urllib.parse import urljoin, urlsplit

WORKFLOW, URL, REPOSITORY = sys.argv[1:4]
OTHER = REPOSITORY + "-other"
MANIFEST, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
CONFIG, LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"
TOLD = ("content-type", "content-length", "docker-content-digest", "range", "content-range", "oci-subject", "oci-filters-applied", "allow")
CURL = os.environ.get("CURL_ARGUMENTS", "").split()
NAMESPACE = os.environ.get("CURL_PREFIX", "")  # a mirror's path before the repository


def sha(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


def curl(method, url, headers=(), body=None):
    with tempfile.TemporaryDirectory() as place:
        words = ["curl", "-sS", "--max-time", "30", "--http1.1", "-o", place + "/body", "-D", place + "/head", *CURL]
        words += ["-I"] if method == "HEAD" else ["-X", method]
        for header in headers:
            words += ["-H", header]
        if body is not None:
            with open(place + "/request", "wb") as file:
                file.write(body)
            words += ["--data-binary", "@" + place + "/request", "-H", "Expect:"]
            if not any(h.lower().startswith("content-type") for h in headers):
                words += ["-H", "Content-Type:"]
        done = subprocess.run([*words, url], capture_output=True, text=True)
        if done.returncode:
            return Reply("none: " + done.stderr.strip(), {}, b"")
        head = open(place + "/head", encoding="latin-1").read().replace("\r", "")
        last = [part for part in head.split("\n\n") if part.startswith("HTTP/") and " 200 Connection" not in part.split("\n")[0]][-1]
        lines = last.split("\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        content = open(place + "/body", "rb").read() if os.path.exists(place + "/body") else b""
        return Reply(int(lines[0].split()[1]), fields, content if method != "HEAD" else b"")


def path(rest, repository=None):
    return f"{URL}/v2/{NAMESPACE}{repository or REPOSITORY}/{rest}"


# The table of error codes.
CODES = {"BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS"}


def codes(body):
    try:
        return " codes" if all(error["code"] in CODES for error in json.loads(body)["errors"]) else " codes=?"
    except (ValueError, KeyError, TypeError):
        return " codes=?"


def ask(what, method, url, headers=(), body=None, secret=()):
    """Asks, and prints what came. What is a run's own (`secret`) is not printed."""
    reply = curl(method, url, headers, body)
    said = [f"{name}={reply.headers[name].partition(';')[0]}" for name in TOLD if name in reply.headers and name not in secret]
    if "/blobs/" in url or url.endswith("/v2/"):
        said = [word for word in said if not word.startswith("content-type")]
    if "location" in reply.headers:
        where = urlsplit(urljoin(url, reply.headers["location"]))
        there = where.path.removeprefix("/v2/" + NAMESPACE)
        said.append("location=" + (there.split("/uploads/")[0] + "/uploads/…" if "/uploads/" in there else there))
        said.append("location-host=" + ("same" if where.netloc == urlsplit(url).netloc else where.netloc))
    if "link" in reply.headers:
        target, _, parameters = reply.headers["link"].partition(">")
        where = urlsplit(urljoin(url, target.lstrip("<")))
        said.append(f"link={where.path.removeprefix('/v2/' + NAMESPACE)}?{where.query}{parameters}")
        said.append("link-host=" + ("same" if where.netloc == urlsplit(url).netloc else where.netloc))
    if isinstance(reply.status, int) and reply.status >= 400:
        said = [word for word in said if not word.startswith(("content-length", "content-type"))]
        said.append(codes(reply.body) if method != "HEAD" else "")
    elif url.endswith("/v2/"):
        said = []
    elif reply.body and method == "GET" and "/referrers/" not in url:  # a list in any order: see `discovery`
        said.append("body=" + sha(reply.body)[:23])
    print(f"{what}: {reply.status} {' '.join(said)}".rstrip())
    return reply


def location(url, reply):
    return urljoin(url, reply.headers.get("location", ""))


def with_digest(url, content):
    return f"{url}{'&' if urlsplit(url).query else '?'}digest={sha(content)}"


def blob(number, size=1000):
    return hashlib.sha256(b"conform %d" % number).digest() * (size // 32 + 1)


def manifest(config, layers, subject=None, artifact=None, annotations=None):
    document = {"schemaVersion": 2, "mediaType": MANIFEST}
    if artifact:
        document["artifactType"] = artifact
    document["config"] = {"mediaType": CONFIG, "digest": sha(config), "size": len(config)}
    document["layers"] = [{"mediaType": LAYER, "digest": sha(layer), "size": len(layer)} for layer in layers]
    if subject:
        document["subject"] = {"mediaType": MANIFEST, "digest": sha(subject), "size": len(subject)}
    if annotations:
        document["annotations"] = annotations
    return json.dumps(document).encode()


EMPTY_CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}).encode()
FIRST, SECOND, CHUNKED, MOUNTED = blob(1), blob(2, 300_000), blob(3, 200_000), blob(4)
IMAGE = manifest(EMPTY_CONFIG, [FIRST, SECOND])
REFERRERS = [manifest(EMPTY_CONFIG, [FIRST], subject=IMAGE, artifact=f"application/vnd.e2e.{kind}", annotations={"n": kind}) for kind in ("signature", "sbom")]
LIST = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"mediaType": MANIFEST, "digest": sha(IMAGE), "size": len(IMAGE), "platform": {"architecture": "amd64", "os": "linux"}}]}).encode()
NOTHING = "sha256:" + "0" * 64


def upload(what, content, repository=None):
    start = ask(what + ": POST (end-4a)", "POST", path("blobs/uploads/", repository), body=b"", secret=("range",))
    put = with_digest(location(path("blobs/uploads/", repository), start), content)
    return ask(what + ": PUT (end-6)", "PUT", put, ["Content-Type: application/octet-stream"], content)


def push():
    ask("base (end-1)", "GET", f"{URL}/v2/")
    upload("config", EMPTY_CONFIG)
    upload("a blob", FIRST)
    upload("a blob again", FIRST)
    ask("a blob in one request (end-4b)", "POST", path(f"blobs/uploads/?digest={sha(SECOND)}"), ["Content-Type: application/octet-stream"], SECOND)
    have = ask("is it there (end-2)", "HEAD", path(f"blobs/{sha(SECOND)}"))
    if have.status != 200:
        upload("a blob in two", SECOND)
    wrong = ask("a wrong digest: POST", "POST", path("blobs/uploads/"), body=b"")
    ask("a wrong digest: PUT", "PUT", with_digest(location(path("blobs/uploads/"), wrong), FIRST), ["Content-Type: application/octet-stream"], SECOND)

    start = ask("chunks: POST", "POST", path("blobs/uploads/"), ["Content-Length: 0"], b"")
    here, half = location(path("blobs/uploads/"), start), len(CHUNKED) // 2
    kind = "Content-Type: application/octet-stream"
    ask("chunks: the second first (end-5)", "PATCH", here, [kind, f"Content-Range: {half}-{len(CHUNKED) - 1}"], CHUNKED[half:])
    first = ask("chunks: the first (end-5)", "PATCH", here, [kind, f"Content-Range: 0-{half - 1}"], CHUNKED[:half])
    here = location(here, first) or here
    ask("chunks: the first again", "PATCH", here, [kind, f"Content-Range: 0-{half - 1}"], CHUNKED[:half])
    state = ask("chunks: how far (end-13)", "GET", here)
    here = location(here, state) if "location" in state.headers else here
    second = ask("chunks: the second (end-5)", "PATCH", here, [kind, f"Content-Range: {half}-{len(CHUNKED) - 1}"], CHUNKED[half:])
    ask("chunks: PUT (end-6)", "PUT", with_digest(location(here, second) or here, CHUNKED), [kind], b"")
    ask("chunks: all there", "GET", path(f"blobs/{sha(CHUNKED)}"))

    start = ask("a cancelled upload: POST", "POST", path("blobs/uploads/"), body=b"")
    ask("a cancelled upload: DELETE", "DELETE", location(path("blobs/uploads/"), start))

    upload("a blob elsewhere", MOUNTED, OTHER)
    mount = ask("a mount (end-11)", "POST", path(f"blobs/uploads/?mount={sha(MOUNTED)}&from={NAMESPACE}{OTHER}"), body=b"", secret=("range",))
    if mount.status == 202:
        ask("a mount that was none", "PUT", with_digest(location(path("blobs/uploads/"), mount), MOUNTED), [kind], MOUNTED)
    ask("a mount of nothing", "POST", path(f"blobs/uploads/?mount={NOTHING}&from={NAMESPACE}{OTHER}"), body=b"", secret=("range",))

    ask("a manifest (end-7)", "PUT", path("manifests/one"), ["Content-Type: " + MANIFEST], IMAGE)
    ask("a manifest by digest (end-7)", "PUT", path(f"manifests/{sha(IMAGE)}"), ["Content-Type: " + MANIFEST], IMAGE)
    for tag in ("two", "three", "four"):
        ask(f"tag {tag}", "PUT", path(f"manifests/{tag}"), ["Content-Type: " + MANIFEST], IMAGE)
    ask("an index", "PUT", path("manifests/list"), ["Content-Type: " + INDEX], LIST)
    ask("a manifest of what is not there", "PUT", path("manifests/broken"), ["Content-Type: " + MANIFEST], manifest(EMPTY_CONFIG, [blob(9)]))
    ask("a manifest that is none", "PUT", path("manifests/broken"), ["Content-Type: " + MANIFEST], b"{}")
    for referrer in REFERRERS:
        ask("a referrer", "PUT", path(f"manifests/{sha(referrer)}"), ["Content-Type: " + MANIFEST], referrer)

    other = manifest(EMPTY_CONFIG, [CHUNKED])
    ask("what is to go", "PUT", path("manifests/going"), ["Content-Type: " + MANIFEST], other)
    ask("it is there", "GET", path("manifests/going"), ["Accept: " + MANIFEST])
    ask("a tag goes (end-9)", "DELETE", path("manifests/going"))
    ask("a manifest goes (end-9)", "DELETE", path(f"manifests/{sha(other)}"))
    ask("it is gone", "GET", path(f"manifests/{sha(other)}"), ["Accept: " + MANIFEST])
    ask("a blob goes (end-10)", "DELETE", path(f"blobs/{sha(MOUNTED)}"))
    ask("nothing goes", "DELETE", path(f"manifests/{NOTHING}"))


def pull():
    accept = [f"Accept: {MANIFEST}", f"Accept: {INDEX}"]
    ask("base (end-1)", "GET", f"{URL}/v2/")
    for method in ("HEAD", "GET", "HEAD", "GET"):
        for name, content in (("config", EMPTY_CONFIG), ("a blob", FIRST), ("a larger blob", SECOND)):
            ask(f"{method} {name} (end-2)", method, path(f"blobs/{sha(content)}"))
        for name, reference in (("by tag", "one"), ("by digest", sha(IMAGE)), ("an index by tag", "list"), ("an index by digest", sha(LIST))):
            ask(f"{method} a manifest {name} (end-3)", method, path(f"manifests/{reference}"), accept)
        for name, rest in (("a blob", f"blobs/{NOTHING}"), ("a manifest by digest", f"manifests/{NOTHING}"), ("a manifest by tag", "manifests/nothing"), ("a manifest with an impossible tag", "manifests/.INVALID"), ("a blob with an impossible digest", "blobs/sha256:totallywrong")):
            ask(f"{method} what is not there: {name}", method, path(rest), accept if "manifest" in name else ())
        ask(f"{method} of a repository that is not", method, path("manifests/one", REPOSITORY + "-none"), accept)


def ranges():
    for span in ("0-99", "0-0", "100-", "-100", "100000-200000", f"{len(SECOND) - 10}-{len(SECOND) - 1}", f"{len(SECOND) - 10}-{len(SECOND) + 10}"):
        ask(f"bytes {span}", "GET", path(f"blobs/{sha(SECOND)}"), ["Range: bytes=" + span])


def discovery():
    def tags(name, query=""):
        reply = ask(f"tags: {name} (end-8)", "GET", path("tags/list" + query))
        listed = json.loads(reply.body or b"{}").get("tags") if reply.status == 200 else None
        print("  ", listed)
        return reply

    tags("all")
    first = tags("two", "?n=2")
    if "link" in first.headers:
        target = first.headers["link"].partition(">")[0].lstrip("<")
        ask("tags: the next page, as told", "GET", urljoin(path("tags/list"), target))
    tags("after", "?n=2&last=list")
    tags("none", "?n=0")
    ask("tags of a repository that is not", "GET", path("tags/list", REPOSITORY + "-none"))
    for name, reference, query in (("all", sha(IMAGE), ""), ("filtered", sha(IMAGE), "?artifactType=application/vnd.e2e.sbom"), ("of what has none", sha(LIST), ""), ("of what is not there", NOTHING, "")):
        reply = ask(f"referrers: {name} (end-12)", "GET", path(f"referrers/{reference}{query}"))
        if reply.status == 200:
            print("  ", sorted((m["digest"], m.get("artifactType")) for m in json.loads(reply.body)["manifests"]))
    ask("referrers of an impossible digest", "GET", path("referrers/sha256:x"))


{"push": push, "pull": pull, "ranges": ranges, "discovery": discovery}[WORKFLOW]()
