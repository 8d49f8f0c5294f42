"""Pictures of numbers and times as SVG, made on the server: a session's calls, and intervals of success rates.

Shapes are placed by attributes in percent and styled by classes, so that they fit any width and need no inline style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from markupsafe import Markup, escape

from agentmodel._lookup.diagnosis import failed
from agentmodel.console._site import visible
from agentmodel.console._words import translator
from agentmodel.dynamo.models import Review, ToolExecution
from agentmodel.redshift.reports import DayExecutions

__all__ = ["bars", "change", "interval", "shares", "span", "timeline", "weeks"]

_LANE, _AXIS = 38, 18  # pixels of height
_MARK = 4


def _began(call: ToolExecution) -> datetime:
    at = call.executed_at
    assert at is not None  # noqa: S101  # callers leave out calls without a time
    return at - timedelta(milliseconds=call.duration_ms or 0)


def timeline(
    calls: Sequence[ToolExecution], steps: Mapping[str, str], reviews: Sequence[Review] = (), *, now: datetime
) -> Markup:
    """Draw a session: a lane for each step, a bar for each call, and an open bar for each wait for a person.

    A failed call has a cross besides its colour. A wait that is about no step of the session has a lane of its own.

    Args:
        calls: The calls of a session; those without a time are left out.
        steps: The name of each process.
        reviews: Its questions to people; those that nobody had to answer are left out.
        now: Until when an open question has waited.
    """
    timed = [call for call in calls if call.executed_at is not None]
    waits = [wait for review in reviews if (wait := _wait(review, now)) is not None]
    if not timed and not waits:
        return Markup("")
    begin = min([*map(_began, timed), *(began for _, began, _ in waits)])
    end = max([*(call.executed_at for call in timed if call.executed_at), *(until for *_, until in waits)])
    total = max((end - begin).total_seconds(), 0.001)
    places = [
        *((_began(call), call.process_id) for call in timed),
        *((at, each.process_id or "") for each, at, _ in waits),
    ]
    lanes = {process: number for number, process in enumerate(dict.fromkeys(name for _, name in sorted(places)))}
    height = _LANE * len(lanes) + _AXIS
    out = [f'<svg class="timeline" width="100%" height="{height}" role="img" aria-labelledby="timeline-t">']
    for process, number in lanes.items():
        y = number * _LANE
        out.append(f'<text x="0" y="{y + 13}">{escape(visible(steps.get(process, process))[:60])}</text>')
        out.append(f'<line x1="0" x2="100%" y1="{y + _LANE - 2}" y2="{y + _LANE - 2}"/>')
    for review, began, until in waits:
        x, width = _place((began - begin).total_seconds(), (until - began).total_seconds(), total)
        title = escape(
            visible(f"{review.question[:200]}: {review.status or 'pending'} {review.decided_by or ''}".strip())
        )
        y = lanes[review.process_id or ""] * _LANE
        place = f'x="{x:.2f}%" width="{width:.2f}%" y="{y + 18}" height="14"'
        out.append(f'<rect class="wait" {place}><title>{title}</title></rect>')
    out += [_bar(call, (_began(call) - begin).total_seconds(), total, lanes[call.process_id] * _LANE) for call in timed]
    for share, anchor in ((0, "start"), (50, "middle"), (100, "end")):
        text = span(total * share / 100)
        out.append(f'<text class="tick" x="{share}%" y="{height - 4}" text-anchor="{anchor}">{text}</text>')
    return Markup("".join([*out, "</svg>"]))  # noqa: S704  # texts in it are escaped above


def span(seconds: float) -> str:
    """Return a length of time in the unit in which people read it.

    >>> span(0), span(0.0004), span(0.25), span(3.2), span(90), span(7_300), span(200_000)
    ('0', '0.4 ms', '250 ms', '3.2 s', '1.5 min', '2.0 h', '2.3 d')
    """
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    milliseconds = 1000 * seconds
    return "0" if not milliseconds else f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def _wait(review: Review, now: datetime) -> tuple[Review, datetime, datetime] | None:
    """Return a question with when it began and ended to wait; None where nobody had to answer it."""
    if review.asked_at is None or review.source is not None or review.phase == "post":
        return None
    until = review.decided_at or min(now, review.answer_until or now)
    return review, review.asked_at, max(until, review.asked_at)


def _place(at: float, length: float, total: float) -> tuple[float, float]:
    """Return where a bar begins and how wide it is, in percent; the shortest can still be seen."""
    width = max(100 * length / total, 0.5)
    return min(100 * at / total, 100 - width), width


def _bar(call: ToolExecution, at: float, total: float, y: int) -> str:
    x, width = _place(at, (call.duration_ms or 0) / 1000, total)
    state = (call.error_type or call.status or "failed") if failed(call) else (call.status or "ok")
    title = escape(visible(f"{call.tool_name}, {call.duration_ms or 0} ms, {state}"))
    kind = "bad" if failed(call) else "good"
    place = f'x="{x:.2f}%" width="{width:.2f}%" y="{y + 18}" height="14"'
    bar = f'<rect class="{kind}" {place}><title>{title}</title></rect>'
    if failed(call):
        cross = f"M-{_MARK} -{_MARK}L{_MARK} {_MARK}M{_MARK} -{_MARK}L-{_MARK} {_MARK}"
        bar += f'<svg class="cross" x="{x + width / 2:.2f}%" y="{y + 25}" overflow="visible"><path d="{cross}"/></svg>'
    return bar


def interval(low: float, mean: float, high: float) -> Markup:
    """Draw an interval of a success rate on a line from 0 to 1, with its mean.

    >>> print(interval(0.5, 0.75, 1)[:48])
    <svg class="interval" width="100%" height="16" a
    """
    low, mean, high = (min(max(share, 0), 1) for share in (low, mean, high))
    return Markup(  # noqa: S704  # numbers only
        '<svg class="interval" width="100%" height="16" aria-hidden="true">'
        '<line x1="0" x2="100%" y1="8" y2="8"/>'
        f'<rect x="{100 * low:.1f}%" width="{max(100 * (high - low), 0.5):.1f}%" y="5" height="6"/>'
        f'<circle cx="{100 * mean:.1f}%" cy="8" r="4"/></svg>'
    )


def change(low: float, mean: float, high: float) -> Markup:
    """Draw an interval of a change on a line from -1 to 1, with its mean and a mark at 0.

    >>> print(change(-0.5, 0, 0.5)[-59:])
    <line class="zero" x1="50%" x2="50%" y1="1" y2="15"/></svg>
    """
    low, mean, high = ((1 + share) / 2 for share in (low, mean, high))
    zero = '<line class="zero" x1="50%" x2="50%" y1="1" y2="15"/>'
    return Markup(str(interval(low, mean, high)).replace("</svg>", f"{zero}</svg>"))  # noqa: S704  # numbers only


def shares(rows: Sequence[tuple[str, int, int]], kinds: tuple[str, str] = ("good", "rest")) -> Markup:
    """Draw a bar of two parts for each row, with its name above it; '' without a row.

    Args:
        rows: The name and the two numbers of each.
        kinds: The classes of the two parts.
    """
    return _bars([(f"{name[:70]}: {one:,} + {other:,}", (one, other)) for name, one, other in rows], kinds)


def bars(rows: Sequence[tuple[str, str, float]], kind: str = "good") -> Markup:
    """Draw a bar for each row, with its number and its name above it, which a phone cuts; '' without a row.

    Args:
        rows: The name, the number as text, and the number of each.
        kind: The class of the bars.
    """
    return _bars([(f"{told} · {name}", (number,)) for name, told, number in rows], (kind,))


def _bars(rows: Sequence[tuple[str, tuple[float, ...]]], kinds: tuple[str, ...]) -> Markup:
    if not rows:
        return Markup("")
    most = max(sum(numbers) for _, numbers in rows) or 1
    height = _LANE * len(rows)
    out = [f'<svg class="weeks" width="100%" height="{height}" role="img"><title>{len(rows)}</title>']
    for row, (text, numbers) in enumerate(rows):
        y, x = row * _LANE, 0.0
        out.append(f'<text x="0" y="{y + 13}">{escape(visible(text[:120]))}</text>')
        for kind, number in zip(kinds, numbers, strict=True):
            width = 100 * number / most
            if width:
                out.append(f'<rect class="{kind}" x="{x:.2f}%" width="{width:.2f}%" y="{y + 18}" height="12"/>')
            x += width
    return Markup("".join([*out, "</svg>"]))  # noqa: S704  # names in it are escaped above


def weeks(days: Sequence[DayExecutions], *, most: int = 26, height: int = 90, language: str = "en") -> Markup:
    """Draw the executions of each week, with the failed ones at the foot; '' without a day.

    Args:
        days: Executions of each day; those without one are left out.
        most: The most weeks, the newest.
        height: Pixels.
        language: Of its title and of what is told of each week.
    """
    say, _ = translator(language)
    counts: dict[int, list[int]] = {}
    for each in days:
        if each.day is not None:
            count = counts.setdefault((each.day.toordinal() - 1) // 7, [0, 0])  # day 1 was a Monday
            count[0] += each.successes
            count[1] += each.executions - each.successes
    if not counts:
        return Markup("")
    last = max(counts)
    first = max(min(counts), last - most + 1)
    tallest = max(sum(counts.get(week, [0, 0])) for week in range(first, last + 1))
    width = 100 / (last - first + 1)
    good, bad = (sum(count[i] for week, count in counts.items() if week >= first) for i in (0, 1))
    title = say("%(weeks)s weeks: %(good)s succeeded, %(bad)s failed")
    title %= {"weeks": last - first + 1, "good": good, "bad": bad}
    out = [f'<svg class="weeks" width="100%" height="{height}" role="img"><title>{title}</title>']
    told = say("%(day)s: %(good)s succeeded, %(bad)s failed")
    for week in range(first, last + 1):
        ok, not_ok = counts.get(week, [0, 0])
        day = datetime.fromordinal(week * 7 + 1).strftime("%Y-%m-%d")
        x, up = (week - first) * width, (height - 10) / tallest
        for kind, number, above in (("good", ok, not_ok), ("bad", not_ok, 0)):
            if number:
                place = f'x="{x:.2f}%" width="{width * 0.8:.2f}%" y="{height - 5 - (number + above) * up:.1f}"'
                title = told % {"day": day, "good": ok, "bad": not_ok}
                out.append(f'<rect class="{kind}" {place} height="{number * up:.1f}"><title>{title}</title></rect>')
    return Markup("".join([*out, "</svg>"]))  # noqa: S704  # numbers only
