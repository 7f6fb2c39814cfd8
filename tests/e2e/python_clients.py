"""Clients of python-socketio, sync or async, as lib/driven.mjs asks for them: commands come as lines of
JSON, what the clients hear goes out the same way (the lines are described in rust_client/src/main.rs).

Handlers of `message` take exactly one argument, as Python code does.
"""

import asyncio
import json
import queue
import sys
import threading

import socketio

ACK_S = 30
EVENTS = ["error", "typing", "joined_room", "left_room"]
RECONNECTING = {"reconnection_delay": 0.05, "reconnection_delay_max": 0.2}


def tell(ident, told, **more):
    # One write a line: lines of several threads do not mix.
    sys.stdout.write(json.dumps({"id": ident, "told": told, **more}) + "\n")
    sys.stdout.flush()


def connecting(command, heard):
    """The arguments of `connect`: the transports, and the token where the command wants it."""
    transports = {"upgrade": ["polling", "websocket"]}.get(command["transport"], [command["transport"]])
    options = {"transports": transports, "wait_timeout": ACK_S}
    auth = {}
    if command["place"] == "auth":
        auth["token"] = command["token"]
    if command["place"] == "header":
        options["headers"] = {"Authorization": f"Bearer {command['token']}"}

    def said():
        return {**auth, "since": max(heard)} if heard else auth

    return {"auth": said, **options}


def listen(client, ident, heard):
    def on_message(message):
        heard.append(message["seq"])
        tell(ident, "event", name="message", args=[message])

    client.on("message", on_message)
    client.on("connect", lambda: tell(ident, "connect"))
    for name in EVENTS:
        client.on(name, lambda *args, name=name: tell(ident, "event", name=name, args=args))


def one_after_the_other(ident, commands):
    client, heard = socketio.Client(**RECONNECTING), []
    listen(client, ident, heard)
    while True:
        command = commands.get()
        try:
            if command["do"] == "open":
                client.connect(command["url"], **connecting(command, heard))
            elif command["do"] == "emit":
                client.emit(command["event"], command["data"])
            elif command["do"] == "transport":
                tell(ident, "transport", name=client.transport())
            elif command["do"] == "ask":
                ask = command["ask"]
                acked = lambda *args, ask=ask: tell(ident, "ack", ask=ask, args=args)
                client.emit(command["event"], command["data"], callback=acked)
            else:
                client.disconnect()
        except Exception as error:
            tell(ident, "failed", why=repr(error))


def sync():
    clients = {}
    for line in sys.stdin:
        command = json.loads(line)
        ident = command["id"]
        if ident not in clients:
            clients[ident] = queue.Queue()
            threading.Thread(target=one_after_the_other, args=(ident, clients[ident]), daemon=True).start()
        clients[ident].put(command)


async def each_in_turn(ident, commands):
    client, heard = socketio.AsyncClient(**RECONNECTING), []
    listen(client, ident, heard)
    while True:
        command = await commands.get()
        try:
            if command["do"] == "open":
                await client.connect(command["url"], **connecting(command, heard))
            elif command["do"] == "emit":
                await client.emit(command["event"], command["data"])
            elif command["do"] == "transport":
                tell(ident, "transport", name=client.transport())
            elif command["do"] == "ask":
                ask = command["ask"]
                acked = lambda *args, ask=ask: tell(ident, "ack", ask=ask, args=args)
                await client.emit(command["event"], command["data"], callback=acked)
            else:
                await client.disconnect()
        except Exception as error:
            tell(ident, "failed", why=repr(error))


async def coroutines():
    clients, tasks = {}, []
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        ident = command["id"]
        if ident not in clients:
            clients[ident] = asyncio.Queue()
            tasks.append(asyncio.create_task(each_in_turn(ident, clients[ident])))
        await clients[ident].put(command)


if __name__ == "__main__":
    if sys.argv[1:] == ["async"]:
        asyncio.run(coroutines())
    else:
        sync()
