"""Drives PyPI paymanai-sdk, unmodified, against an emulator: each grant.

Usage: python_client.py BASE_URL AUTH_CODE ACCESS_TOKEN REFRESH_TOKEN

Prints one JSON object a check; fails loudly where the SDK does not get what it documents.
"""

import json
import sys

import payman_sdk.client as sdk

base_url, auth_code, access_token, refresh_token = sys.argv[1:5]
sdk.BASE_URLS["LIVE"] = base_url

CONFIG = {"client_id": "python", "client_secret": "secret", "name": "peer"}


def say(check, reply):
    text = reply["artifacts"][0]["content"]
    assert reply["status"].upper() == "COMPLETED", reply
    assert reply["timestamp"], reply
    print(json.dumps({"check": check, "text": text}))
    return text


credentials = sdk.PaymanClient.with_credentials(CONFIG)
assert "1,000,000" in say("credentials", credentials.ask("How much money do I have in my wallet?"))
token = credentials.get_access_token()
assert token["accessToken"] and token["expiresIn"] > 0, token
assert not credentials.is_access_token_expired()
assert credentials.get_client_name() == "peer"

raw = credentials.ask("List all wallets", {"output_format": "json", "metadata": {"source": "peer"}})
assert raw["result"]["status"]["state"] == "COMPLETED", raw
assert raw["result"]["sessionId"] == credentials.get_session_id(), raw

say(
    "payee",
    credentials.ask(
        "Create a new payee named Tyllen",
        {"metadata": {"a": 1}, "message_metadata": {"b": 2}, "part_metadata": {"c": 3}},
    ),
)
assert "Tyllen" in say("pay", credentials.ask("Pay Tyllen 50$"))
assert "Tyllen" in say("session", credentials.ask("What did we talk about earlier?"))
resumed = sdk.PaymanClient.with_credentials({**CONFIG, "session_id": credentials.get_session_id()})
assert "Tyllen" in say("resumed", resumed.ask("What did we talk about earlier?"))

coded = sdk.PaymanClient.with_auth_code(CONFIG, auth_code)
say("auth code", coded.ask("List all payees"))
assert coded.get_refresh_token(), "the sign-in of a user can be refreshed"

given = sdk.PaymanClient.with_token(CONFIG, {"accessToken": access_token, "expiresIn": 3600})
say("access token", given.ask("List all payees"))

refreshed = sdk.PaymanClient.with_token(CONFIG, {"refreshToken": refresh_token})
say("refresh token", refreshed.ask("List all payees"))

try:
    sdk.PaymanClient.with_token(CONFIG, {"accessToken": "nobody's", "expiresIn": 3600}).ask("hi")
except Exception as error:
    assert error.response.status_code == 401, error
    print(json.dumps({"check": "wrong token", "text": error.response.text}))
else:
    raise AssertionError("a wrong token was accepted")
