"""What is looked for in a page that a browser shows: noise, requests, overflow, faint text."""

from helpers.chromium import Chromium


def told(browser: Chromium) -> list[str]:
    """What the page said on the console, threw, logged or asked in a dialog."""
    found = []
    for event in browser.events:
        if event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
            found.append(str(event["params"]))
        if event["method"] == "Log.entryAdded":
            found.append(event["params"]["entry"]["text"])
    return found


def requested(browser: Chromium) -> list[str]:
    sent = [event["params"] for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    return [own["request"]["url"] for own in sent]


# Where anything stands out of the window or out of its own box; what scrolls by itself may be wider inside.
OVERFLOWING = """(() => {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push("page " + root.scrollWidth + " > " + root.clientWidth);
  for (const item of document.body.querySelectorAll("*")) {
    const box = item.getBoundingClientRect();
    if (!box.width || item.closest(".scroll, .skip, datalist")) continue;
    if (box.right > root.clientWidth + 0.5 || box.left < -0.5)
      found.push(item.tagName + "." + item.className + " " + box.left + ".." + box.right);
  }
  return found;
})()"""
# Contrast by WCAG 2 of every text with what lies behind it; 4.5 is level AA for text of this size.
FAINT = """(() => {
  const light = (color) => {
    const parts = color.match(/[\\d.]+/g).map(Number);
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = parts.slice(0, 3).map((v) => linear(v / 255));
    return { value: 0.2126 * r + 0.7152 * g + 0.0722 * b, clear: parts.length > 3 && parts[3] === 0 };
  };
  const behind = (item) => {
    for (let own = item; own; own = own.parentElement) {
      const found = light(getComputedStyle(own).backgroundColor);
      if (!found.clear) return found.value;
    }
    return 1;
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const item = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || item.closest("script, datalist") || !item.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(item).color).value, behind(item)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.add(item.tagName + "." + item.className + " " + ratio.toFixed(2));
  }
  return [...found];
})()"""
