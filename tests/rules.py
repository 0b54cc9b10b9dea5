"""The alerts as the Prometheus Operator takes them: `python -m tests.rules` makes them from deploy/prometheus."""

from __future__ import annotations

import textwrap
from pathlib import Path

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
RESOURCE = DEPLOY / "kubernetes" / "alerts" / "prometheus-rule.yaml"

_HEAD = """\
# Made of deploy/prometheus/alerts.yml by `make docs`: change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: microbatch
spec:
"""


def resource() -> str:
    """The groups as they stand in the file, with their comments; its own head is about another place."""
    text = RULES.read_text()
    return _HEAD + textwrap.indent(text[text.index("groups:\n") :], "  ")


if __name__ == "__main__":
    RESOURCE.write_text(resource())
