// What makes the equations of a page hard to read.
() => {
  const box = (element) => element.getBoundingClientRect();
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const em = (element) => parseFloat(getComputedStyle(element).fontSize);
  const faults = new Set();
  const check = (right, fault) => right || faults.add(fault);
  check(all("math").length, "there is no equation");
  check([...document.fonts].some((font) => font.status === "loaded"), "the font is not loaded");
  for (const table of all("mtable")) {
    for (const bracket of [table.previousElementSibling, table.nextElementSibling])
      if (bracket && /^[[\]{}]$/.test(bracket.textContent))
        check(Math.abs(box(bracket).height / box(table).height - 1) < 0.1, "a bracket does not fit");
    const starts = {};
    for (const sign of all("mtd + mtd > mo:first-child, mtd + mtd > mi:empty + mo", table)) {
      const cell = sign.parentElement, column = [...cell.parentElement.children].indexOf(cell);
      const left = cell.previousElementSibling.lastElementChild;
      check(!left || box(sign).left - box(left).right < 0.5 * em(sign), "a sign is far from its left side");
      starts[column] ??= box(sign).left;
      check(Math.abs(starts[column] - box(sign).left) < 0.5, "signs do not align");
    }
  }
  for (const name of all("mi, msup")) {
    let next = name.nextElementSibling;
    if (next?.matches("mspace")) next = next.nextElementSibling;
    if (/^(tanh|log)/.test(name.textContent) && next?.matches("mi, msub") && next.textContent !== "′")
      check(box(next).left - box(name).right > 0.1 * em(name), `${name.textContent} touches ${next.textContent}`);
  }
  for (const equation of all("math[display=block]"))
    check(equation.scrollWidth <= equation.clientWidth + 1, "an equation is too wide");
  return [...faults].sort();
}
