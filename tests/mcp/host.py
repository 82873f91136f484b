"""Tests `payman mcp` with the `mcp` package from PyPI, 1.x or 2.x, as its host.

Arguments: the program, the URL of an emulator, the URL of an emulator with an agent delay of 4 s.
"""

import asyncio
import json
import os
import sys
import tempfile
import urllib.request
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version

VERSION = version("mcp")
IS_V2 = not VERSION.startswith("1.")

if IS_V2:
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters
    from mcp_types import ElicitResult
else:
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.types import ElicitResult

PROGRAM, QUICK, SLOW = sys.argv[1:4]
BALANCE = "How much money do I have in my wallet?"
PAY = "Pay Tyllen $50"
ENDED = ("COMPLETED", "CANCELED", "FAILED", "REJECTED")


class Result:
    """The result of a tool, independent of the client's version."""

    def __init__(self, result):
        self.is_error = result.is_error if IS_V2 else result.isError
        self.content = result.structured_content if IS_V2 else result.structuredContent
        self.text = result.content[0].text


class Host:
    def __init__(self, client):
        self.client = client

    async def tools(self):
        return (await self.client.list_tools()).tools

    async def call(self, tool, arguments, limit=None, progress=None):
        if not IS_V2 and limit is not None:
            limit = timedelta(seconds=limit)
        return Result(
            await self.client.call_tool(
                tool, arguments, read_timeout_seconds=limit, progress_callback=progress
            )
        )

    async def ask(self, text, **options):
        return await self.call("ask_payman", {"text": text}, **options)


@asynccontextmanager
async def host(url, *args, elicit=None, mode=None):
    with tempfile.TemporaryDirectory() as home:
        server = StdioServerParameters(
            command=PROGRAM,
            args=["mcp", *args],
            cwd=home,
            env={
                "HOME": home,
                "PATH": os.environ["PATH"],
                "PAYMAN_BASE_URL": url,
                "PAYMAN_CLIENT_ID": "app",
                "PAYMAN_CLIENT_SECRET": "hush",
            },
        )
        if IS_V2:
            async with Client(server, elicitation_callback=elicit, mode=mode) as client:
                yield Host(client)
        else:
            async with stdio_client(server) as (read, write):
                async with ClientSession(read, write, elicitation_callback=elicit) as client:
                    await client.initialize()
                    yield Host(client)


def user(*answers):
    """Returns a callback that gives these answers, then accepts, and records the questions."""
    left = list(answers)

    async def elicit(context, params):
        elicit.asked.append(params.message)
        answer = left.pop(0) if left else "accept"
        if answer in ("decline", "cancel"):
            return ElicitResult(action=answer)
        return ElicitResult(
            action="accept", content={} if answer == "accept" else {"answer": answer}
        )

    elicit.asked = []
    return elicit


def emulator(url, method, path):
    request = urllib.request.Request(f"{url}/_emulator/{path}", method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read()


def state(url):
    return json.loads(emulator(url, "GET", "state"))


def payments(url):
    return [str(payment["amount"]) for payment in state(url)["payments"]]


async def wait_until(condition):
    """Waits until the condition holds for the tasks of the slow emulator."""
    while not condition(state(SLOW)["tasks"]):
        await asyncio.sleep(0.1)


async def with_payee(url):
    emulator(url, "POST", "reset")
    async with host(url, "--confirm", "never", mode="legacy") as agent:
        assert not (await agent.ask("create payee Tyllen")).is_error


async def check_list(mode):
    async with host(QUICK, mode=mode) as agent:
        tools = {tool.name: tool for tool in await agent.tools()}
        assert set(tools) == {"ask_payman", "get_task", "cancel_task"}
        ask = tools["ask_payman"].annotations
        assert (ask.destructive_hint if IS_V2 else ask.destructiveHint) is True
        get = tools["get_task"].annotations
        assert (get.read_only_hint if IS_V2 else get.readOnlyHint) is True


async def check_ask_and_progress(mode):
    seen = []

    async def progress(done, total, message):
        seen.append((done, message))

    async with host(QUICK, "--confirm", "never", mode=mode) as agent:
        result = await agent.ask(BALANCE, progress=progress)
        assert not result.is_error and "$1,000,000.00" in result.text, result.text
        assert result.content["state"] == "completed"
        assert seen and seen == sorted(seen, key=lambda step: step[0]), seen
        lookup = await agent.call("get_task", {"task_id": result.content["taskId"]})
        assert lookup.content["text"] == result.content["text"]


async def check_confirmation_and_repetition(mode):
    await with_payee(QUICK)
    elicit = user()
    async with host(QUICK, elicit=elicit, mode=mode) as agent:
        result = await agent.ask(PAY)
        assert not result.is_error, result.text
        assert len(elicit.asked) == 1 and PAY in elicit.asked[0], elicit.asked
        again = await agent.ask(PAY)
        assert again.content["repeated"] and again.content["taskId"] == result.content["taskId"]
    assert payments(QUICK) == ["50.00"], payments(QUICK)


async def check_declined(mode):
    for answer in ("decline", "cancel"):
        await with_payee(QUICK)
        before = len(state(QUICK)["tasks"])
        async with host(QUICK, elicit=user(answer), mode=mode) as agent:
            result = await agent.ask(PAY)
            assert result.is_error and result.content["state"] == "not-sent", result.text
        assert payments(QUICK) == [] and len(state(QUICK)["tasks"]) == before


async def check_unsupported(mode):
    await with_payee(QUICK)
    async with host(QUICK, mode=mode) as agent:
        result = await agent.ask(PAY)
        assert result.is_error and "--confirm never" in result.text, result.text
    assert payments(QUICK) == []


async def check_question(mode):
    emulator(QUICK, "POST", "reset")
    elicit = user("accept", "yes, create them")
    async with host(QUICK, elicit=elicit, mode=mode) as agent:
        result = await agent.ask(PAY)
        assert result.content["state"] == "completed", result.text
        assert "There is no payee named Tyllen" in elicit.asked[1], elicit.asked
    assert payments(QUICK) == ["50.00"]
    emulator(QUICK, "POST", "reset")
    async with host(QUICK, "--confirm", "never", mode=mode) as agent:
        result = await agent.ask(PAY)
        assert result.content["state"] == "input-required", result.text
        arguments = {"text": "yes, create them", "task_id": result.content["taskId"]}
        result = await agent.call("ask_payman", arguments)
        assert result.content["state"] == "completed", result.text
    assert payments(QUICK) == ["50.00"]


async def check_timeout_and_repetition(mode):
    await with_payee(SLOW)
    elicit = user()
    async with host(SLOW, elicit=elicit, mode=mode) as agent:
        try:
            await agent.ask(PAY, limit=2.5)
        except Exception as error:  # the exception type depends on the version
            print(f"    the client gave up: {type(error).__name__}: {error}")
        else:
            raise AssertionError("the call did not time out")
        result = await agent.ask(PAY)
        assert result.content["state"] == "completed", result.text
        assert result.content["repeated"], result.text
    assert payments(SLOW) == ["50.00"], payments(SLOW)
    assert len(elicit.asked) == 1, elicit.asked


async def check_cancellation(mode):
    for args, paid in (((), ["50.00"]), (("--cancel-tasks",), [])):
        await with_payee(SLOW)
        async with host(SLOW, "--confirm", "never", *args, mode=mode) as agent:
            before = len(state(SLOW)["tasks"])
            call = asyncio.create_task(agent.ask(PAY))
            await wait_until(lambda tasks: len(tasks) > before)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await wait_until(lambda tasks: tasks[-1]["status"]["state"] in ENDED)
            if IS_V2:
                # 1.x does not notify the server that a call is canceled.
                assert payments(SLOW) == paid, payments(SLOW)
            result = await agent.ask(PAY)
            assert result.content["repeated"], result.text
        assert len(payments(SLOW)) <= 1


async def check_errors(mode):
    async with host(QUICK, "--confirm", "never", mode=mode) as agent:
        for tool, arguments in (
            ("ask_payman", {"text": " "}),
            ("ask_payman", {"text": "x", "amount": 5}),
            ("get_task", {"task_id": "tsk-nobody-knows"}),
        ):
            result = await agent.call(tool, arguments)
            assert result.is_error and result.text, (tool, arguments)
    async with host("http://127.0.0.1:9", "--confirm", "never", mode=mode) as agent:
        result = await agent.ask(BALANCE)
        assert result.is_error and not result.content["outcomeUnknown"], result.text


CHECKS = [
    check_list,
    check_ask_and_progress,
    check_confirmation_and_repetition,
    check_declined,
    check_unsupported,
    check_question,
    check_timeout_and_repetition,
    check_cancellation,
    check_errors,
]


async def main():
    for mode in ("legacy", "auto", "2026-07-28") if IS_V2 else ("",):
        for check in CHECKS:
            print(f"mcp {VERSION} {mode} {check.__name__}", flush=True)
            emulator(QUICK, "POST", "reset")
            await asyncio.wait_for(check(mode), 60)
    emulator(QUICK, "POST", "reset")


asyncio.run(main())
