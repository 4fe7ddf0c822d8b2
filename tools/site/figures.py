"""Find labels of a figure that cannot be read: they overlap, lie on a line, or leave the figure."""

import itertools
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.backend_bases import RendererBase
from matplotlib.transforms import Bbox

CLEAR = 0.25  # points by which the outlines of letters may touch something


class Drawn(RendererBase):
    """What is drawn of a figure, in pixels: labels, as boxes around their letters, and lines."""

    def __init__(self, figure: Any) -> None:
        super().__init__()
        self.page, self.scale = figure.bbox, figure.dpi / 72
        self.labels: list[tuple[str, Bbox]] = []
        self.lines: list[tuple[Any, Bbox]] = []
        self.text = ""
        figure.draw(self)

    def get_canvas_width_height(self) -> tuple[float, float]:
        return self.page.width, self.page.height

    def points_to_pixels(self, points: float) -> float:
        return points * self.scale

    def flipy(self) -> bool:
        return False

    def draw_text(self, gc: Any, x: float, y: float, s: str, *args: Any, **options: Any) -> None:
        self.text = s.strip()
        super().draw_text(gc, x, y, s, *args, **options)  # which draws the outlines of the letters
        self.text = ""

    def draw_path(self, gc: Any, path: Any, transform: Any, rgbFace: Any = None) -> None:
        path, seen = path.transformed(transform), self.page
        if gc.get_clip_rectangle() is not None:
            seen = Bbox.intersection(seen, gc.get_clip_rectangle()) or Bbox.null()
        if self.text:
            self.labels.append((self.text, path.get_extents().padded(-CLEAR * self.scale)))
        elif gc.get_linewidth() and gc.get_rgb()[3]:
            self.lines.append((path, seen))

    def draw_image(self, *args: Any, **options: Any) -> None:
        pass

    def draw_quad_mesh(self, *args: Any, **options: Any) -> None:
        pass


def faults(figure: Any) -> list[str]:
    """What makes the labels of a figure hard to read, in words."""
    drawn = Drawn(figure)
    found = [
        f"{text!r} overlaps {other!r}"
        for (text, box), (other, beside) in itertools.combinations(drawn.labels, 2)
        if Bbox.intersection(box, beside)
    ]
    for text, box in drawn.labels:
        if not np.array_equal(Bbox.intersection(box, drawn.page) or Bbox.null(), box):
            found.append(f"{text!r} leaves the figure")
        parts = ((path, Bbox.intersection(box, seen)) for path, seen in drawn.lines)
        if any(part and path.intersects_bbox(part, filled=False) for path, part in parts):
            found.append(f"{text!r} lies on a line")
    return found


def load_ipython_extension(shell: Any) -> None:
    """Let `plt.show` raise ValueError for a figure with labels that are hard to read."""
    show = pyplot.show

    def checked(*args: Any, **options: Any) -> None:
        if found := [fault for number in pyplot.get_fignums() for fault in faults(pyplot.figure(number))]:
            raise ValueError(f"labels of the figure are hard to read, move them: {'; '.join(found)}")
        show(*args, **options)

    pyplot.show = checked
