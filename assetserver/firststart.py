"""The first starts, while nobody has a token: a link to the console with a fresh admin token, as Jupyter does.

The token ends after a day: what is printed is in the terminal's history, or in the journal, for longer than anybody
thinks of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from .access.tokens import issue_token
from .baseurl import admin_url, base_url
from .data import open_records, served_sites
from .endings import with_options
from .errors import AssetServerError
from .settings import Settings
from .wording import in_utc

LIFETIME_S = 86_400.0
_NOTE = "first start"


def is_first_start(settings: Settings) -> bool:
    """Tell whether tokens are of use and the records hold none yet, whatever was published.

    Who only serves folders, and names no data folder, gets none. Records that cannot be read are told of by who needs them.
    """
    if not settings.uploads.enabled or not (served_sites(settings) or settings.data.path):
        return False
    records = open_records(settings)
    if not records.are_there():
        return True
    try:
        return not records.has_tokens()
    except (AssetServerError, OSError):
        return False
    finally:
        records.close()


def welcome(settings: Settings, address: str) -> Iterator[str]:
    """Make an admin token and yield the lines that say where it leads.

    ``address``: where it listens, for settings that do not say where it is reached. A folder that cannot be written to is no
    reason not to serve: then the line says so.
    """
    now = time.time()
    token, record = issue_token(["admin"], now=now, note=_NOTE, lifetime_s=LIFETIME_S)
    try:
        records = open_records(settings)
        records.access().tokens.add(record)
        records.close()
    except (AssetServerError, OSError) as error:
        yield f"no console link: {error}"
        return
    origin = admin_url(settings) or base_url(settings) or (address if address.startswith("http") else "")
    yield f"console {origin}/-/console/#token={token}"
    yield f"        good until {in_utc(now + LIFETIME_S)}; for others: {with_options('assetserver token create --scope admin')}"
