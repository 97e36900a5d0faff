"""The Grafana board and the alerts, on a real Prometheus that watches a real seawall: no panel is empty, every rule names what there is.

    SEAWALL=target/release/seawall python3 -m pytest tests/e2e/test_board.py

Needs Debian's prometheus, which is unpacked into target/e2e if it is not here; where it cannot be had, that is said, and nothing else is done.
When each alert fires, and when not, is in alerts.test.yaml.
"""

import json
import re
import subprocess

import pytest

from board_world import ALERTS, ROOT, SEAWALL, NotHere, World, prometheus
from lab import Processes

BOARD = json.loads((ROOT / "deploy/grafana/seawall.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TESTS = ROOT / "tests/e2e/alerts.test.yaml"
# Panels whose every figure may be 0 here: nothing is in a rush, the disk is good, and what Prometheus counts as firing is another test's.
STILL = {"Waiting for a place", "In memory for slow clients and disks", "Damaged by the disk", "Blobs removed to make room", "Alerts that fire"}
# What the traffic is bound to set off; those with a longer `for` are pending.
SET_OFF = {"SeawallUpstreamUnreachable", "SeawallServesStale", "SeawallQuotaLow", "SeawallRateLimited", "SeawallDiskFull"}
METRIC = re.compile(r"\bseawall_\w+")
SELECTOR = re.compile(r"\b(seawall_\w+|up)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


@pytest.fixture(scope="module")
def programs():
    try:
        return prometheus()
    except NotHere as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def world(programs, tmp_path_factory):
    if not SEAWALL.exists():
        pytest.skip(f"not here: {SEAWALL}")
    with Processes(tmp_path_factory.mktemp("board")) as processes:
        world = World(processes)
        tunnel = world.client.tunnel(world.good.port)
        world.run()
        yield world
        tunnel.close()


def filled(expression):
    """As Grafana fills it in."""
    for name, value in (("$__rate_interval", "15s"), ("$__range", "1m"), ("$instance", ".*"), ("$registry", ".*")):
        expression = expression.replace(name, value)
    return expression


def queries(panel):
    return [target["expr"] for target in panel["targets"]]


def rules(world):
    return [rule for group in world.ask("rules", type="alert")["groups"] for rule in group["rules"]]


def test_the_rules_are_rules(programs):
    said = subprocess.run([programs / "promtool", "check", "rules", ALERTS], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def test_each_alert_fires_when_it_should_and_not_else(programs):
    said = subprocess.run([programs / "promtool", "test", "rules", TESTS], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    untried = [name for name in re.findall(r"- alert: (\w+)", ALERTS.read_text()) if f'alertname="{name}",alertstate="firing"' not in TESTS.read_text()]
    assert not untried


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_no_panel_is_empty(world, panel):
    seen = []
    for expression in queries(panel):
        found = world.ask("query_range", query=filled(expression), start=world.began, end=world.ended, step=1)["result"]
        values = [float(value) for series in found for _, value in series["values"]]
        values = [value for value in values if value == value]
        assert values, f"nothing: {filled(expression)}"
        seen += values
    assert panel["title"] in STILL or max(map(abs, seen)) > 0, f"nothing but 0: {queries(panel)}"


def test_a_board_of_a_new_seawall_says_that_nothing_is_wrong():
    """Not `No data`: what has not happened has no series."""
    assert not [panel["title"] for panel in PANELS if not panel["fieldConfig"]["defaults"].get("noValue")]


def test_the_variables_have_values(world):
    for variable in BOARD["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
        assert world.ask(f"label/{label}/values", **{"match[]": metric}), variable["name"]


def test_the_board_is_bound_to_no_prometheus():
    def sources(node):
        if isinstance(node, dict):
            yield from ([node["datasource"]] if "datasource" in node else [])
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from sources(child)

    assert {json.dumps(source) for source in sources(BOARD)} == {'{"type": "prometheus", "uid": "${datasource}"}'}
    assert "uid" not in BOARD and BOARD["templating"]["list"][0]["name"] == "datasource"


def test_the_board_shows_the_seawalls_that_were_chosen():
    chosen = [(panel["title"], match[0]) for panel in PANELS for query in queries(panel) for match in SELECTOR.finditer(query)
              if 'instance=~"$instance"' not in (match[2] or "")]
    assert not chosen


def test_panels_are_beside_each_other_and_have_names_of_their_own():
    taken, titles = set(), set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        assert panel["title"] not in titles
        taken |= cells
        titles.add(panel["title"])


def test_the_alerts_name_what_there_is(world):
    """Metrics, and labels of these."""
    known = world.metrics()
    assert len(rules(world)) == len(re.findall("- alert:", ALERTS.read_text()))
    for rule in rules(world):
        assert rule["health"] == "ok", rule
        assert set(METRIC.findall(rule["query"])) <= known, f"{rule['name']}: {set(METRIC.findall(rule['query'])) - known}"
        for metric, matchers in SELECTOR.findall(rule["query"]):
            series = world.ask("series", **{"match[]": metric})
            for label, operator, value in MATCHER.findall(matchers):
                values = {labels.get(label) for labels in series}
                assert values != {None}, f"{rule['name']}: {metric} has no {label}"
                assert operator != "=" or value in values, f"{rule['name']}: no {metric} has {label}={value}, but {values}"


def test_the_page_has_each_alert_with_its_severity(world):
    rows = re.findall(r"^\| (`Seawall.*?) \| (\w+) \|", (ROOT / "docs/operating.md").read_text(), re.M)
    assert {name: severity for names, severity in rows for name in re.findall(r"\w+", names)} == {rule["name"]: rule["labels"]["severity"] for rule in rules(world)}


def test_the_alerts_say_what_it_means_and_what_to_do(world):
    """The texts, as Prometheus fills them in, and the places that they lead to."""
    for rule in rules(world):
        assert {"summary", "description"} <= rule["annotations"].keys() and rule["labels"]["severity"] in ("critical", "warning"), rule["name"]
        page, anchor = re.search(r"(docs/\w+\.md)#([\w-]+)$", rule["annotations"]["description"]).groups()
        titles = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.M)
        assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, f"{rule['name']}: {page}#{anchor}"
    set_off = world.ask("alerts")["alerts"]
    assert SET_OFF <= {alert["labels"]["alertname"] for alert in set_off}
    texts = [text for alert in set_off for text in alert["annotations"].values()]
    assert not [text for text in texts if re.search(r"<error|<no value>|%!|\{\{", text)]
