const slides = [...document.querySelectorAll("section")];
const forward = ["ArrowRight", "ArrowDown", "PageDown", " "], back = ["ArrowLeft", "ArrowUp", "PageUp"];
addEventListener("keydown", (event) => {
  const steps = forward.includes(event.key) ? 1 : back.includes(event.key) ? -1 : 0;
  if (!steps) return;
  event.preventDefault();
  const at = slides.findLastIndex((slide) => slide.getBoundingClientRect().top < innerHeight / 2);
  slides[Math.min(Math.max(at + steps, 0), slides.length - 1)].scrollIntoView();
});
