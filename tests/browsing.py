"""What the tests share that look at pages in a browser."""

import pytest

from harness.services.programs import CHROMIUM

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
needs_chromium = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.find(), reason=f"{CHROMIUM.name} is missing"),
]
LEAST_CONTRAST = 4.5  # WCAG 2.2, AA, 1.4.3

CONTRASTS = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parts = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = node => {
    for (; node; node = node.parentElement) {
      const behind = getComputedStyle(node).backgroundColor;
      if (parts(behind)[3] === 255) return behind;
    }
    return 'white';
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const ink = node instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(parts(ink)), light(parts(paper(node)))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.trim()]);
  }
  return found;
}
"""
"""The contrast of each text that can be seen, against what lies behind it, with the text."""
