"""Small documents over the network, with retries."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

from geolift.errors import RemoteError

TRIES = 6
FIRST_WAIT_S = 0.2
TIMEOUT_S = 30.0
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers of servers that are worth another try."""


def fetch(address: str) -> bytes:
    """Read a document from an http or https address. Raises RemoteError if it cannot be read after the retries."""
    reason = "no answer"
    for attempt in range(TRIES):
        if attempt:
            time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as refusal:
            reason = f"the server answers HTTP {refusal.code} {refusal.reason}"
            refusal.close()
            if refusal.code not in PASSING:
                break
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error))
    raise RemoteError(f"{without_query(address)}: cannot be read over the network: {reason}")


def without_query(address: str) -> str:
    """Leave out what may be a signature.

    >>> without_query("https://a.b/c.json?sig=secret")
    'https://a.b/c.json'
    """
    return address.partition("?")[0]
