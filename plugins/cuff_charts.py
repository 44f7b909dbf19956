"""Small charts as inline SVG: no script, no library, readable in light and in dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 12, 26


@dataclass(frozen=True)
class Point:
    """One value along the x axis, with its interval where it has one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    is_strong: bool = False


@dataclass(frozen=True)
class Bar:
    """What an hour brought, and what it usually brings; ``mark`` stands below the axis where it is not empty."""

    label: str
    value: float
    usual: float | None
    mark: str = ""


@dataclass(frozen=True)
class Share:
    """What part, in percent, something has of all."""

    name: str
    percent: float


def bars(hours: Sequence[Bar], title: str) -> str:
    """A bar for each hour, the last one lighter because it still runs, and what is usual as a stepped line."""
    if not hours:
        return ""
    top = max([1.0, *(hour.value for hour in hours), *(hour.usual for hour in hours if hour.usual is not None)])
    step, height = (WIDTH - _LEFT - _RIGHT) / len(hours), HEIGHT - _TOP - _BOTTOM
    ground = _TOP + height
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>']
    for share in (1.0, 0.5):
        y = ground - height * share
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_short(top * share)}</text>')
    parts.append(f'<line class="rule" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{ground}" y2="{ground}"/>')
    usual, is_drawn = "", False
    for number, hour in enumerate(hours):
        x, tall = _LEFT + number * step, height * hour.value / top
        expected = "not known yet" if hour.usual is None else f"{hour.usual:,.0f}"
        kind = "bar now" if number + 1 == len(hours) else "bar"
        parts.append(f'<g><rect class="reach" x="{x:.1f}" y="{_TOP}" width="{step:.2f}" height="{height}"/>'
                     f'<rect class="{kind}" x="{x + 0.12 * step:.1f}" y="{ground - tall:.1f}" width="{0.76 * step:.2f}" '
                     f'height="{tall:.1f}"/><title>{escape(hour.label)}: {hour.value:,.0f}, usual {expected}</title></g>')
        if hour.usual is not None:
            y = ground - height * hour.usual / top
            usual += f"{'L' if is_drawn else 'M'}{x:.1f} {y:.1f}H{x + step:.1f}"
        is_drawn = hour.usual is not None
        if hour.mark:
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(hour.mark)}</text>'
                         f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{ground}" y2="{ground + 4}"/>')
    return "".join(parts) + (f'<path class="usual" d="{usual}"/>' if usual else "") + "</svg>"


def shares(rows: Sequence[Share], title: str, bound: float | None = None) -> str:
    """A lying bar for each share in percent; those above ``bound``, the dashed line, stand out."""
    if not rows:
        return ""
    names, step = 200, 22
    height = len(rows) * step + 8
    top = max([*(row.percent for row in rows), bound or 0.0]) or 1.0
    reach = WIDTH - names - 52
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>']
    for number, row in enumerate(rows):
        y, wide = 4 + number * step, reach * row.percent / top
        is_above = bound is not None and row.percent > bound
        parts.append(f'<g><text x="{names - 6}" y="{y + 14}" text-anchor="end">{escape(row.name)}</text>'
                     f'<rect class="{"bar over" if is_above else "bar"}" x="{names}" y="{y + 4}" width="{max(wide, 1):.1f}" '
                     f'height="{step - 8}"/><text x="{names + wide + 5:.1f}" y="{y + 14}">{row.percent:.3g} %</text></g>')
    if bound is not None:
        x = names + reach * bound / top
        parts.append(f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{height - 2}"/>')
    return "".join(parts) + "</svg>"


def _short(value: float) -> str:
    return f"{value / 1000:.1f}k" if value >= 10_000 else f"{value:,.0f}" if value >= 2 else f"{value:.1f}"


def chart(points: Sequence[Point], title: str, digits: int = 2, reference: float | None = None) -> str:
    """Points joined by a line, their intervals as bars, the strong ones filled; ``reference`` is a dashed line."""
    if not points:
        return ""
    values = [each for point in points for each in (point.low, point.value, point.high) if each is not None]
    values += [reference] if reference is not None else []
    low, high = min(values), max(values)
    margin = (high - low) * 0.12 or abs(high) * 0.1 or 0.1
    low, high = low - margin, high + margin

    def x(index: int) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (index + 0.5) / len(points)

    def y(value: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>']
    for share in (0.1, 0.5, 0.9):
        value = low + (high - low) * share
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
                     f'<text x="{_LEFT - 6}" y="{y(value) + 3.5:.1f}" text-anchor="end">{value:.{digits}f}</text>')
    if reference is not None:
        parts.append(f'<line class="reference" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(reference):.1f}" '
                     f'y2="{y(reference):.1f}"/>')
    parts.append('<polyline class="line" points="' + " ".join(
        f"{x(index):.1f},{y(point.value):.1f}" for index, point in enumerate(points)) + '"/>')
    every = max(1, len(points) // 8)
    for index, point in enumerate(points):
        if point.low is not None and point.high is not None:
            parts.append(f'<line class="interval" x1="{x(index):.1f}" x2="{x(index):.1f}" y1="{y(point.low):.1f}" '
                         f'y2="{y(point.high):.1f}"/>')
        kind = "dot strong" if point.is_strong else "dot"
        parts.append(f'<circle class="{kind}" cx="{x(index):.1f}" cy="{y(point.value):.1f}" r="4">'
                     f"<title>{escape(point.label)}: {point.value:.{digits + 1}f}</title></circle>")
        if index % every == 0:
            parts.append(f'<text x="{x(index):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(point.label)}</text>')
    return "".join(parts) + "</svg>"
