"""Documents that must go together: two languages, alerts and their runbook, metrics and who uses them."""

import json
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
METRIC = re.compile(r"\bminitalk_[a-z0-9_]+")
# What Prometheus adds to the name of a histogram.
SUFFIXES = ("_bucket", "_sum", "_count")


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def documented_metrics():
    """Name -> type, labels."""
    rows = re.findall(r"^\| `(minitalk_\w+)` \| (\w+) \| ([^|]*)\|", text("docs/metrics.md"), re.M)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def expressions_of_dashboard(board):
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def rules():
    """Alert -> its lines."""
    parts = re.split(r"^ +- alert: (\w+)$", text("systemd/prometheus/minitalk.rules.yml"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def outline(document):
    """Levels of headings, and the code blocks without their comments and blank ends of lines."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", document, re.M | re.S)
    prose = re.sub(r"^```.*?^```", "", document, flags=re.M | re.S)
    bare = [(kind, [re.sub(r"\s*(?:(?:^|\s)#|//).*|/\*.*?\*/", "", line).rstrip() for line in block.splitlines()]) for kind, block in blocks]
    return {
        "headings": [len(marks) for marks in re.findall(r"^(#+) ", prose, re.M)],
        "commands": [(kind, [line for line in lines if line]) for kind, lines in bare],
        "rows of tables": len(re.findall(r"^\|", prose, re.M)),
        "points of lists": len(re.findall(r"^- ", prose, re.M)),
        "names in code": sorted(set(re.findall(r"`([^`]+)`", prose))),
        "links": sorted(re.findall(r"\]\(([^)]+)\)", prose)),
    }


class Documents(unittest.TestCase):
    maxDiff = None

    def test_the_korean_readme_is_in_step(self):
        english, korean = outline(text("README.md")), outline(text("README.ko.md"))
        for part, expected in english.items():
            self.assertEqual(korean[part], expected, f"{part} of README.ko.md")
        self.assertGreater(len(re.findall(r"[가-힣]", text("README.ko.md"))), 1_000)

    def test_the_outline_sees_what_it_should(self):
        one = outline("# A\n```sh\nls # all\n```\n## B `minitalk serve`\n- x\n")
        self.assertEqual(one["headings"], [1, 2])
        self.assertEqual(one["commands"], [("sh", ["ls"])])
        self.assertNotEqual(one, outline("# A\n```sh\nls -l\n```\n## B `minitalk serve`\n- x\n"))

    def test_links_lead_somewhere(self):
        for name in ["README.md", "README.ko.md", "docs/operating.md", "docs/metrics.md"]:
            for link in re.findall(r"\]\(([^)#]+)\)", text(name)):
                if "://" not in link:
                    self.assertTrue((ROOT / name).parent.joinpath(link).exists(), f"{link} in {name}")

    def test_every_alert_has_its_steps(self):
        manual = text("docs/operating.md")
        headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", manual, re.M)}
        self.assertGreaterEqual(len(rules()), 15)
        for alert, rule in rules().items():
            self.assertTrue(alert in manual, f"{alert} is not in docs/operating.md")
            anchor = re.search(r'runbook: ".+operating\.md#(\w+)"', rule)
            self.assertTrue(anchor, f"{alert} has no runbook line")
            self.assertIn(anchor[1], headings, alert)
        known = {alert.lower() for alert in rules()}
        self.assertEqual([heading for heading in headings if heading.startswith("minitalk") and heading not in known], [])

    def test_alerts_and_dashboards_use_metrics_that_there_are(self):
        metrics = documented_metrics()
        self.assertGreater(len(metrics), 40)
        used = {alert: rule.split("annotations:")[0] for alert, rule in rules().items()}
        for name in ["overview", "storage"]:
            board = json.loads(text(f"systemd/grafana/{name}.json"))
            self.assertEqual(len({panel["id"] for panel in board["panels"]}), len(board["panels"]))
            used.update({f"{name}: {title}": expr for title, expr in expressions_of_dashboard(board)})
        for where, expr in used.items():
            names = METRIC.findall(expr)
            self.assertTrue(names or "up{" in expr, where)
            for full in names:
                name = next((full.removesuffix(s) for s in SUFFIXES if full.endswith(s) and full.removesuffix(s) in metrics), full)
                self.assertIn(name, metrics, where)
                kind, labels = metrics[name]
                if full == name and kind == "counter":
                    self.assertRegex(expr, rf"(rate|increase)\({full}\b", where)
                for selector in re.findall(re.escape(full) + r"\{([^}]*)\}", expr):
                    for label in re.findall(r"(\w+)[=!]", selector):
                        self.assertIn(label, labels | {"instance", "job", "le"}, where)

    def test_names_and_units_are_as_prometheus_wants_them(self):
        for name, (kind, labels) in documented_metrics().items():
            self.assertIn(kind, {"gauge", "counter", "histogram"}, name)
            self.assertEqual(name.endswith("_total"), kind == "counter", name)
            self.assertNotRegex(name, r"(milli|micro|_ms|_us|_kb|_mb|kilo|mega)", name)
            self.assertLessEqual(len(labels), 3, name)

    def test_the_manual_names_files_and_settings_that_there_are(self):
        manual = text("docs/operating.md")
        example = text("systemd/minitalk.toml")
        for path in re.findall(r"`((?:docs|systemd)/[\w./]+)`", manual):
            self.assertTrue((ROOT / path).exists(), path)
        for table, key in re.findall(r"`(limits|storage|auth)\.([a-z_]+)(?![\w.])", manual):
            self.assertTrue(re.search(rf"^{key} = ", example, re.M), f"{table}.{key}")


if __name__ == "__main__":
    unittest.main()
