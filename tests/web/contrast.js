// Lists the texts of a page whose contrast with their background is lower than WCAG 2.2, level AA, demands.
() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parts = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const linear = (part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);

  /** The color behind an element: that of the box it is drawn on in a diagram, or of an ancestor. */
  const ground = (element) => {
    let box = element.style.fill ? element.previousElementSibling : null;
    while (box && box.tagName !== "rect") box = box.previousElementSibling;
    if (box) return parts(getComputedStyle(box).fill);
    for (let each = element; each; each = each.parentElement) {
      const color = parts(getComputedStyle(each).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255];
  };
  const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const isShown = (element) => element.checkVisibility() && !element.disabled && element.tagName !== "OPTION" && element.className !== "hidden";
  const found = [];
  for (const element of [...document.body.querySelectorAll("*")].filter((each) => hasText(each) && isShown(each))) {
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const ink = parts(element instanceof SVGElement ? style.fill : style.color);
    const [light, dark] = [luminance(ink), luminance(ground(element))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05), isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) found.push(`${element.tagName} "${element.textContent.trim().slice(0, 30)}": ${ratio.toFixed(2)}`);
  }
  return found;
}
