"""How a take was made, as a small table."""

from __future__ import annotations

import html

from PyQt6.QtCore import QCoreApplication, QDateTime, QLocale

from gui.document import Take
from gui.take_list import findings_text
from gui.theme import theme
from pkontext.parameters import TABLE, taken

_ALWAYS = ("seed", "tempo", "expressiveness")
_MOST_FINDINGS = 12


def details_html(take: Take | None) -> str:
    """How a take was made, and what was heard in it."""
    if take is None:
        return ""
    settings = take.settings
    values = taken(settings)
    rows = [
        (parameter.name, parameter.to_text(values[parameter.id]))
        for parameter in TABLE
        if parameter.makes_take and (parameter.id in _ALWAYS or values[parameter.id] != parameter.default)
    ]
    for name, path in (
        (_tr("Soundfont"), settings.soundfont),
        (_tr("Plays like"), settings.like),
    ):
        if path is not None:
            rows.append((name, path.name))
    if settings.drawn:
        rows.append((_tr("Drawn curves"), ", ".join(curve.name for curve in settings.drawn)))
    if settings.rerolls:
        rows.append((_tr("Re-rolled"), _tr("{0} passages").format(len(settings.rerolls))))
    rows.append((_tr("Check"), findings_text(take) or _tr("not checked yet")))
    moment = QDateTime.fromSecsSinceEpoch(int(take.created))
    rows.append((_tr("Made"), QLocale().toString(moment, QLocale.FormatType.ShortFormat)))
    if take.bundle:
        rows.append((_tr("Model"), take.bundle[:10]))
    faint = theme.colours.faint_text.name()
    cells = "".join(
        f'<tr><td style="color:{faint}; padding-right:12px">{html.escape(name)}</td>'
        f"<td>{html.escape(text)}</td></tr>"
        for name, text in rows
    )
    bad = "".join(f"<br>{html.escape(finding.text())}" for finding in (take.findings or ())[:_MOST_FINDINGS])
    return f"<b>{html.escape(take.name)}</b><table>{cells}</table>{bad}"


def _tr(text: str) -> str:
    return QCoreApplication.translate("TakesPanel", text)
