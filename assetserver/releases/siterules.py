"""The rules of a release, from its ``_headers`` and ``_redirects``: parsed at publish, and kept in the manifest."""

from __future__ import annotations

import msgspec

from assetserver.errors import PublishError

from .headersfile import HeaderRule
from .patterns import Dialect
from .redirectsfile import RedirectRule

HEADERS_FILE = "_headers"
REDIRECTS_FILE = "_redirects"
RULE_FILES = (HEADERS_FILE, REDIRECTS_FILE)


class SiteRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """Header and redirect rules, in the order of their files, and whose reading of them applies."""

    dialect: Dialect = "netlify"
    headers: tuple[HeaderRule, ...] = ()
    redirects: tuple[RedirectRule, ...] = ()


NO_RULES = SiteRules()


def encode_rules(rules: SiteRules) -> bytes:
    """Return the bytes of ``rules`` for an index, none for no rules."""
    return b"" if rules == NO_RULES else msgspec.msgpack.encode(rules)


def decode_rules(content: bytes) -> SiteRules:
    """Return the rules that ``encode_rules`` encoded. Raises ``PublishError`` for anything else."""
    try:
        return msgspec.msgpack.decode(content, type=SiteRules) if content else NO_RULES
    except msgspec.DecodeError as error:
        raise PublishError(f"the rules in an index cannot be read ({error}); activate the release again") from error
