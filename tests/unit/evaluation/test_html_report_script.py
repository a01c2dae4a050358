"""The script of report.html under Node, on a document of its own: filter by words and flags, order, printing."""

import json
import shutil
import subprocess
from importlib import resources
from typing import Any

import pytest

DOCUMENT = """
const details = (place, score, find, flagged) =>
  ({ dataset: { place: String(place), score: String(score), find, flagged }, hidden: false, open: false });
const children = [details(2, -0.5, "gout: what is gout?", "0"), details(0, -0.25, "asthma: what is it?", "1"),
  details(1, 0.75, "gout: how to treat it?", "1")];
const listeners = {};
const element = (id, extra) => Object.assign({ id, value: "", checked: false, textContent: "",
  addEventListener(kind, call) { listeners[id + "." + kind] = call; } }, extra);
const move = (item) => { children.splice(children.indexOf(item), 1); children.push(item); };
const elements = { list: { children, append: move },
  search: element("search"), order: element("order", { value: "worst" }), flagged: element("flagged"),
  count: element("count"), filter: element("filter") };
const document = { getElementById: (id) => elements[id] };
const addEventListener = (kind, call) => { listeners["window." + kind] = call; };
const state = () => ({ shown: children.filter((item) => !item.hidden).map((item) => Number(item.dataset.place)),
  count: elements.count.textContent, open: children.filter((item) => item.open).length });
"""
ACTIONS = """
const seen = [];
const act = (change, event) => { change(); listeners[event](); seen.push(state()); };
act(() => { elements.order.value = "best"; }, "order.change");
act(() => { elements.order.value = "file"; }, "order.change");
act(() => { elements.search.value = " GOUT"; }, "search.input");
act(() => { elements.flagged.checked = true; }, "flagged.change");
act(() => {}, "window.beforeprint");
act(() => {}, "window.afterprint");
act(() => { elements.search.value = ""; elements.order.value = "worst"; }, "search.input");
console.log(JSON.stringify(seen));
"""


def test_the_script_filters_sorts_and_opens_for_print() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    page = resources.files("medqa_cli.resources").joinpath("report.html.j2").read_text(encoding="utf-8")
    script = page[page.index("<script>") + len("<script>") : page.index("</script>")].replace('"use strict";', "")
    done = subprocess.run(
        [node, "--eval", f'"use strict";{DOCUMENT}{script}{ACTIONS}'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seen: list[dict[str, Any]] = json.loads(done.stdout)
    assert [state["shown"] for state in seen] == [[1, 0, 2], [0, 1, 2], [1, 2], [1], [1], [1], [0, 1]]
    assert [state["count"] for state in seen][2:4] == ["2 shown", "1 shown"]
    assert [state["open"] for state in seen] == [0, 0, 0, 0, 1, 0, 0]
