"""Grafana's boards, as code: `python -m tests.boards` writes them into deploy/grafana."""
