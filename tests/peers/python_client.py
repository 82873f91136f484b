"""Tests an emulator with the unmodified package `paymanai-sdk` from PyPI: each OAuth grant.

Usage: python_client.py BASE_URL AUTH_CODE ACCESS_TOKEN REFRESH_TOKEN

Prints one JSON object per check. Fails if a reply differs from the documentation of the package.
"""

import json
import sys

import payman_sdk.client as sdk

base_url, auth_code, access_token, refresh_token = sys.argv[1:5]
sdk.BASE_URLS["LIVE"] = base_url

CONFIG = {"client_id": "python", "client_secret": "secret", "name": "peer"}


def report(check, reply):
    text = reply["artifacts"][0]["content"]
    assert reply["status"].upper() == "COMPLETED", reply
    assert reply["timestamp"], reply
    print(json.dumps({"check": check, "text": text}))
    return text


credentials = sdk.PaymanClient.with_credentials(CONFIG)
balance = report("credentials", credentials.ask("How much money do I have in my wallet?"))
assert "1,000,000" in balance
token = credentials.get_access_token()
assert token["accessToken"] and token["expiresIn"] > 0, token
assert not credentials.is_access_token_expired()
assert credentials.get_client_name() == "peer"

raw = credentials.ask("List all wallets", {"output_format": "json", "metadata": {"source": "peer"}})
assert raw["result"]["status"]["state"] == "COMPLETED", raw
assert raw["result"]["sessionId"] == credentials.get_session_id(), raw

report(
    "payee",
    credentials.ask(
        "Create a new payee named Tyllen",
        {"metadata": {"a": 1}, "message_metadata": {"b": 2}, "part_metadata": {"c": 3}},
    ),
)
assert "Tyllen" in report("pay", credentials.ask("Pay Tyllen 50$"))
assert "Tyllen" in report("session", credentials.ask("What did we talk about earlier?"))
resumed = sdk.PaymanClient.with_credentials({**CONFIG, "session_id": credentials.get_session_id()})
assert "Tyllen" in report("resumed", resumed.ask("What did we talk about earlier?"))

with_code = sdk.PaymanClient.with_auth_code(CONFIG, auth_code)
report("auth code", with_code.ask("List all payees"))
assert with_code.get_refresh_token(), "the sign-in of a user can be refreshed"

access = {"accessToken": access_token, "expiresIn": 3600}
with_access_token = sdk.PaymanClient.with_token(CONFIG, access)
report("access token", with_access_token.ask("List all payees"))

with_refresh_token = sdk.PaymanClient.with_token(CONFIG, {"refreshToken": refresh_token})
report("refresh token", with_refresh_token.ask("List all payees"))

try:
    sdk.PaymanClient.with_token(CONFIG, {"accessToken": "nobody's", "expiresIn": 3600}).ask("hi")
except Exception as error:
    assert error.response.status_code == 401, error
    print(json.dumps({"check": "wrong token", "text": error.response.text}))
else:
    raise AssertionError("a wrong token was accepted")
