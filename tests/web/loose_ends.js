// The ends of the wires of the cell on the page that touch no box, operator, text or other wire, as [wire, x, y].
(() => {
  const all = (selector) => [...document.querySelectorAll(`#cell ${selector}`)];
  const wires = [...new Map(all(".wire").map((wire) => [wire.getAttribute("d"), wire])).values()]; // some are drawn twice
  const along = (wire, share) => wire.getPointAtLength(share * wire.getTotalLength());
  const within = (element, { x, y }, margin) => {
    const box = element.getBBox();
    return x >= box.x - margin && x <= box.x + box.width + margin && y >= box.y - margin && y <= box.y + box.height + margin;
  };
  const meets = (wire, { x, y }) => Array.from({ length: 201 }, (_, n) => along(wire, n / 200)).some((p) => Math.hypot(p.x - x, p.y - y) <= 3);
  const touches = (wire, p) =>
    all("rect, circle").some((part) => within(part, p, 2)) || all("text").some((text) => within(text, p, 16)) ||
    wires.some((other) => other !== wire && meets(other, p));
  return wires.flatMap((wire) => [along(wire, 0), along(wire, 1)].filter((p) => !touches(wire, p)).map(({ x, y }) => [wire.getAttribute("d"), x, y]));
})()
