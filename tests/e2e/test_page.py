"""The operator's pages in a real browser, on a seawall with an outage, a quota that ends and traffic: in light and dark, at 360 and 1,600
pixels, with and without scripts.

    SEAWALL=target/release/seawall python3 -m pytest tests/e2e/test_page.py

Needs Debian's chromium, node with npm, and from npm playwright-core and axe-core, which are put into target/e2e/page; where they cannot be had,
that is said, and nothing is done. Screenshots are left there, to be looked at.
"""

import json
import pathlib
import shutil
import subprocess
import urllib.request

import pytest

from board_world import CACHE, ROOT, SEAWALL, Client, Fake
from lab import ENVIRONMENT, Processes, free_port

TOML = """
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
data = "{dir}/data"
[upstream]
connect_timeout = "1s"
[cache.tags]
ttl = "1s"
[[registry]]
name = "lab"
upstreams = [{{ url = "http://127.0.0.1:{good}" }}]
[[registry]]
name = "away"
upstreams = [{{ url = "http://127.0.0.1:{away}" }}]
"""


def tools():
    """Chromium, and the directory of the modules."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium or not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("chromium (Debian's package), node or npm is not here")
    directory = CACHE / "page"
    if not (directory / "node_modules/axe-core").exists():
        directory.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(directory), "playwright-core@1", "axe-core@4"]
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if fetched.returncode:
            pytest.skip(f"playwright-core and axe-core cannot be had: {fetched.stderr.strip()[-200:]}")
    return chromium, directory


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    chromium, directory = tools()
    if not SEAWALL.exists():
        pytest.skip(f"not here: {SEAWALL}")
    good = Fake(remaining=9)
    with Processes(tmp_path_factory.mktemp("page")) as processes:
        port, admin = free_port(), free_port()
        file = processes.dir / "seawall.toml"
        file.write_text(TOML.format(port=port, admin=admin, dir=processes.dir, good=good.port, away=free_port()))
        processes.start("seawall", [str(SEAWALL), "serve", "--config", str(file)], port)
        client = Client(port)
        for number in range(8):
            assert client.pull("lab", f"acme/app{number % 4}") == (200, 200)
            client.ask(f"/v2/away/acme/app{number}/manifests/1")
        token = pathlib.Path(processes.dir / "data/admin.token").read_text().strip()
        base = f"http://127.0.0.1:{admin}"
        with urllib.request.urlopen(f"{base}/", timeout=10) as page:
            size = len(page.read())
        script = ROOT / "tests/e2e/page/drive.mjs"
        command = ["node", str(script), chromium, base, token, str(directory)]
        driven = subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
        assert driven.returncode == 0, driven.stderr
        yield {**json.loads(driven.stdout), "size": size}


def test_nothing_is_loaded_from_elsewhere(seen):
    assert seen["elsewhere"] == []


def test_the_console_is_silent(seen):
    assert seen["errors"] == []


def test_contrast_labels_and_landmarks_are_right(seen):
    assert seen["violations"] == []


def test_no_page_is_wider_than_its_window(seen):
    assert seen["sideways"] == []


def test_it_is_small(seen):
    assets = sum(file.stat().st_size for file in (ROOT / "src/admin/page/assets").iterdir() if file.suffix in (".js", ".css", ".svg"))
    assert seen["size"] + assets < 100_000


def test_without_scripts_one_signs_in_does_something_and_signs_out(seen):
    steps = seen["seen"]
    assert steps["disabled"] and steps["after_login"].endswith("/")
    assert (steps["wrong"], steps["begun"], steps["out"]) == ("This is not the token.", "Everything on disk is being hashed.", "Signed out.")


def test_with_scripts_it_looks_again_and_the_keyboard_begins_with_the_content(seen):
    assert (seen["seen"]["again"], seen["seen"]["first_tab"]) == (200, "To the content")
