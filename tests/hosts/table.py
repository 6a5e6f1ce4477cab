"""The page of hosts, made from what their tests recorded: ``python tests/hosts/table.py RECORD [--check PAGE]``."""

import argparse
import json
import sys
from pathlib import Path

HEAD = (
    "# What was shown in which host\n\n"
    "This page is written by the tests: `python -m nox -s hosts` trains and evaluates with each host, at the version named here, "
    "and compares the page with what it saw.\n\n"
)


def page(lines):
    """Markdown: one table of all hosts, then what each was shown to do."""
    hosts = {}
    for record in map(json.loads, lines):
        host = hosts.setdefault(record["host"], {"version": record["version"], "write": record["write"], "shown": {}})
        # What is tested with several parameters holds when it holds with all of them.
        host["shown"][record["shown"]] = host["shown"].get(record["shown"], True) and record["outcome"] == "passed"
    rows = ["| host | version | what you write | shown |", "|---|---|---|---|"]
    details = []
    for name, host in sorted(hosts.items(), key=lambda item: item[0].lower()):
        shown = host["shown"]
        rows.append(f"| {name} | {host['version']} | {host['write']} | {sum(shown.values())} of {len(shown)} |")
        details += [f"\n## {name}\n", *(f"- {'' if held else '**not shown:** '}{what}" for what, held in sorted(shown.items()))]
    return HEAD + "\n".join(rows + details) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("--check", type=Path, metavar="PAGE", help="exit with 1 unless PAGE is what would be written")
    options = parser.parse_args()
    text = page(options.record.read_text().splitlines())
    if options.check is None:
        print(text, end="")
    elif options.check.read_text() != text:
        sys.exit(f"{options.check} is not what the tests of the hosts saw: python -m nox -s hosts -- --write writes it")


if __name__ == "__main__":
    main()
