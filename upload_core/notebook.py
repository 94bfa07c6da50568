"""A delivery as a notebook shows it: one small block of HTML, without style sheet or script."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Final

from upload_core.delivery import Delivery
from upload_core.lifecycle import ABANDONED, FAILED, INVALID, PublicFileState
from upload_core.messages import plain
from upload_core.tally import without_name
from upload_core.text import printable

REASONS_MAX: Final = 5
COLORS: Final[dict[PublicFileState, str]] = {
    "valid": "#2a7f62",
    "done": "#4f8fc4",
    "transferring": "#a8cbe8",
    "pending": "#c9c6bd",
    "ready": "#dedbd3",
    "failed": "#d98e04",
    "invalid": "#b83a2e",
}


def delivery_html(delivery: Delivery, place: str, at: str) -> str:
    """The delivery in a few lines of HTML: its name, `at` (what state, or which moment), a bar of states, reasons.

    Every text is escaped, and made printable before.
    """
    created = delivery.created
    counts = {state: count for state, count in delivery.public_counts().items() if count}
    bar = "".join(
        f'<span style="flex:{count} 0 0;min-width:4px;background:{COLORS[state]}" title="{count:,} {state}"></span>'
        for state, count in sorted(counts.items(), key=lambda item: list(COLORS).index(item[0]))
    )
    told = ", ".join(f"{count:,} {state}" for state, count in counts.items())
    return (
        '<div style="max-width:42em;line-height:1.5">'
        f"<div><strong>{_text(created.dataset)} · {_text(created.delivery_id)}</strong> "
        f'<span style="opacity:.7">{_text(created.transfer_type)}, {_text(at)}</span></div>'
        f'<div role="img" aria-label="{_text(told)}" '
        f'style="display:flex;gap:2px;height:.8em;border-radius:.4em;overflow:hidden;margin:.3em 0">{bar}</div>'
        f"<div>{len(delivery):,} {'file' if len(delivery) == 1 else 'files'}: {_text(told)}</div>"
        f"{_reasons(delivery)}"
        f'<div style="opacity:.7">journal: {_text(place)}</div></div>'
    )


def _reasons(delivery: Delivery) -> str:
    reasons: Counter[str] = Counter()
    for file in delivery.files_in(FAILED, ABANDONED, INVALID):
        reason = without_name(plain(delivery.message_of(file) or "no reason was given"), delivery.table.path(file))
        reasons[f"{delivery.state_of(file)}: {reason}"] += 1
    if not reasons:
        return ""
    items = "".join(f"<li>{count:,} {_text(reason)}</li>" for reason, count in reasons.most_common(REASONS_MAX))
    more = len(reasons) - REASONS_MAX
    return f"<ul>{items}{f'<li>{more:,} other reasons</li>' if more > 0 else ''}</ul>"


def _text(text: str) -> str:
    return escape(printable(text, 300))
