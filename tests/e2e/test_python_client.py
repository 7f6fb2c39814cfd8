"""The main path with the stock python-socketio clients, sync and async, over two workers.

Handlers take exactly one argument, as Python code does: an event with a second one would break them.
"""

import asyncio
import unittest

import socketio

from minitalk_server import DEADLINE_S, Server, until

WEBSOCKET = {"transports": ["websocket"], "wait_timeout": DEADLINE_S}


def without_type(messages):
    return [{k: v for k, v in m.items() if k != "type"} for m in messages]


class SyncClient(unittest.TestCase):
    """socketio.Client"""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.users = cls.server.new_users("파이썬", 8)
        cls.room = cls.server.new_room(cls.users)
        cls.clients, cls.heard = [], []
        # Connections are dealt to the workers by chance: take more until both have some.
        while len(cls.clients) < 4 or cls.server.workers_in_use(len(cls.clients)) < 2:
            assert len(cls.clients) < 64, "64 connections and all on one worker"
            cls._connect(cls.users[len(cls.clients) % len(cls.users)])

    @classmethod
    def _connect(cls, user):
        client, heard = socketio.Client(reconnection=False), []

        @client.on("message")
        def on_message(message):
            heard.append(message)

        client.connect(cls.server.url, auth={"token": user["token"]}, **WEBSOCKET)
        cls.addClassCleanup(client.disconnect)
        cls.clients.append(client)
        cls.heard.append(heard)

    def say(self, client, content, **more):
        message = {"roomId": self.room, "content": content, **more}
        return client.call("send_message", message, timeout=DEADLINE_S)

    def test_a_message_is_acked_and_reaches_everybody_once(self):
        before = [len(heard) for heard in self.heard]
        for at in range(100):
            ack = self.say(self.clients[at % 4], f"안녕 {at} 🎉")
            self.assertEqual((ack["ok"], set(ack)), (True, {"ok", "id", "seq", "timestamp"}))
        for heard, start in zip(self.heard, before):
            until("a hundred messages", lambda: len(heard) >= start + 100)
            self.assertEqual([m["content"] for m in heard[start:]], [f"안녕 {at} 🎉" for at in range(100)])
            self.assertEqual(heard[start]["sender"], self.users[0]["username"])

    def test_history_is_what_was_heard(self):
        for at in range(30):
            self.say(self.clients[at % 2], f"history {at}")
        until("the last one", lambda: self.heard[3] and self.heard[3][-1]["content"] == "history 29")
        path = f"/api/chatrooms/{self.room}/messages?limit=30"
        rest = self.server.call("GET", path, token=self.users[3]["token"])
        self.assertEqual(rest, without_type(self.heard[3][-30:]))
        asked = self.clients[3].call("get_messages", {"roomId": self.room, "limit": 30}, timeout=DEADLINE_S)
        self.assertEqual((asked["ok"], asked["messages"]), (True, rest))

    def test_a_repeated_client_id_is_stored_once(self):
        first = self.say(self.clients[0], "once", clientId="py-1")
        self.assertEqual(self.say(self.clients[0], "once", clientId="py-1"), first)

    def test_since_brings_what_was_missed_and_handlers_never_see_an_offset(self):
        first = self.say(self.clients[0], "had")["seq"]
        missed = [self.say(self.clients[at % 4], f"missed {at}")["seq"] for at in range(50)]
        for since in (first, str(first)):
            client, heard = socketio.Client(reconnection=False), []

            @client.on("message")
            def on_message(message):
                heard.append(message["seq"])

            client.connect(self.server.url, auth={"token": self.users[7]["token"], "since": since}, **WEBSOCKET)
            missed.append(self.say(self.clients[1], "new")["seq"])
            until("all of it", lambda: heard and heard[-1] == missed[-1])
            self.assertEqual(heard, missed)
            client.disconnect()

    def test_a_bad_token_is_refused(self):
        client = socketio.Client(reconnection=False)
        with self.assertRaises(socketio.exceptions.ConnectionError):
            client.connect(self.server.url, auth={"token": "garbage"}, **WEBSOCKET)

    def test_binary_content_is_refused_and_the_client_lives_on(self):
        ack = self.clients[1].call("send_message", {"roomId": self.room, "content": b"\xff\x00"}, timeout=DEADLINE_S)
        self.assertEqual((ack["ok"], ack["code"]), (False, "INVALID_REQUEST"))
        self.assertTrue(self.say(self.clients[1], "still here")["ok"])


class AsyncClient(unittest.IsolatedAsyncioTestCase):
    """socketio.AsyncClient"""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.users = cls.server.new_users("async", 8)
        cls.room = cls.server.new_room(cls.users)

    async def connect(self, user):
        client, heard = socketio.AsyncClient(reconnection=False), []
        client.on("message", heard.append)
        await client.connect(self.server.url, auth={"token": user["token"]}, **WEBSOCKET)
        return client, heard

    async def connected_to_both_workers(self):
        pairs = []
        while len(pairs) < 4 or await asyncio.to_thread(self.server.workers_in_use, len(pairs)) < 2:
            self.assertLess(len(pairs), 64, "64 connections and all on one worker")
            pairs.append(await self.connect(self.users[len(pairs) % len(self.users)]))
        return pairs

    async def test_many_at_once_hear_everything_in_one_order(self):
        pairs = await self.connected_to_both_workers()

        async def speak(client, name):
            for at in range(50):
                message = {"roomId": self.room, "content": f"{name} {at}"}
                ack = await client.call("send_message", message, timeout=DEADLINE_S)
                self.assertTrue(ack["ok"], ack)

        await asyncio.gather(*(speak(client, at) for at, (client, _) in enumerate(pairs)))
        wanted = 50 * len(pairs)
        for _, heard in pairs:
            await asyncio.to_thread(until, "all of it", lambda: len(heard) == wanted)
            self.assertEqual(heard, pairs[0][1])
            seqs = [m["seq"] for m in heard]
            self.assertEqual(seqs, list(range(seqs[0], seqs[0] + wanted)))
        path = f"/api/chatrooms/{self.room}/messages?limit=100"
        rest = await asyncio.to_thread(self.server.call, "GET", path, None, self.users[0]["token"])
        self.assertEqual(rest, without_type(pairs[0][1][-100:]))
        for client, _ in pairs:
            await client.disconnect()

    async def test_since_brings_what_was_missed_and_handlers_never_see_an_offset(self):
        client, _ = await self.connect(self.users[0])

        async def say(content):
            message = {"roomId": self.room, "content": content}
            return (await client.call("send_message", message, timeout=DEADLINE_S))["seq"]

        first = await say("had")
        missed = [await say(f"missed {at}") for at in range(20)]
        other, heard = socketio.AsyncClient(reconnection=False), []

        @other.on("message")
        async def on_message(message):
            heard.append(message["seq"])

        await other.connect(self.server.url, auth={"token": self.users[1]["token"], "since": first}, **WEBSOCKET)
        missed.append(await say("new"))
        await asyncio.to_thread(until, "all of it", lambda: heard and heard[-1] == missed[-1])
        self.assertEqual(heard, missed)
        await other.disconnect()
        await client.disconnect()

    async def test_typing_and_an_invitation_reach_the_other(self):
        client, _ = await self.connect(self.users[0])
        other, heard = await self.connect(self.users[1])
        typed = asyncio.get_running_loop().create_future()
        other.on("typing", lambda event: typed.done() or typed.set_result(event))
        room = await asyncio.to_thread(self.server.new_room, [self.users[0]], "later")
        path = f"/api/chatrooms/{room}/invite"
        body = {"participants": [self.users[1]["username"]]}
        await asyncio.to_thread(self.server.call, "POST", path, body, self.users[0]["token"])
        await client.emit("typing", {"roomId": room})
        event = await asyncio.wait_for(typed, DEADLINE_S)
        self.assertEqual(event, {"roomId": room, "username": self.users[0]["username"]})
        await client.call("send_message", {"roomId": room, "content": "hello"}, timeout=DEADLINE_S)
        await asyncio.to_thread(until, "the message", lambda: heard and heard[-1]["content"] == "hello")
        await client.disconnect()
        await other.disconnect()


if __name__ == "__main__":
    unittest.main()


class LongPolling(unittest.TestCase):
    """socketio.Client over HTTP long polling, with and without the upgrade it makes by itself."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.users = cls.server.new_users("poller", 4)
        cls.room = cls.server.new_room(cls.users)

    def connect(self, user, transports):
        client, heard = socketio.Client(reconnection=False), []
        client.on("message", heard.append)
        options = {"wait_timeout": DEADLINE_S, "transports": transports}
        client.connect(self.server.url, auth={"token": user["token"]}, **options)
        self.addCleanup(client.disconnect)
        return client, heard

    def converse(self, transports, transport):
        pairs = [self.connect(user, transports) for user in self.users]
        for at in range(40):
            message = {"roomId": self.room, "content": f"안녕 {at} 🎉"}
            ack = pairs[at % 4][0].call("send_message", message, timeout=DEADLINE_S)
            self.assertTrue(ack["ok"], ack)
        for client, heard in pairs:
            until("all of it", lambda: len(heard) >= 40)
            self.assertEqual([m["content"] for m in heard], [f"안녕 {at} 🎉" for at in range(40)])
            self.assertEqual(client.transport(), transport)

    def test_a_conversation(self):
        self.converse(["polling"], "polling")

    def test_a_conversation_that_goes_on_over_websockets(self):
        self.converse(["polling", "websocket"], "websocket")

    def test_many_messages_at_once_come_in_payloads_that_the_client_takes(self):
        speaker, _ = self.connect(self.users[0], ["websocket"])

        def say(content):
            message = {"roomId": self.room, "content": content}
            return speaker.call("send_message", message, timeout=DEADLINE_S)["seq"]

        first = say("had")
        missed = {say(f"missed {at}") for at in range(100)}
        client, heard = socketio.Client(reconnection=False), []
        client.on("message", heard.append)
        self.addCleanup(client.disconnect)
        auth = {"token": self.users[1]["token"], "since": first}
        client.connect(self.server.url, auth=auth, wait_timeout=DEADLINE_S, transports=["polling"])
        until("all of it", lambda: len(heard) >= len(missed))
        # Each handler runs on a thread of its own: in which order is up to them.
        self.assertEqual({m["seq"] for m in heard}, missed)

    def test_bytes_are_refused_and_the_client_lives_on(self):
        client, _ = self.connect(self.users[0], ["polling"])
        message = {"roomId": self.room, "content": b"\xff\x00"}
        ack = client.call("send_message", message, timeout=DEADLINE_S)
        self.assertEqual((ack["ok"], ack["code"]), (False, "INVALID_REQUEST"))
        message["content"] = "still here"
        self.assertTrue(client.call("send_message", message, timeout=DEADLINE_S)["ok"])

    def test_a_bad_token_is_refused(self):
        with self.assertRaises(socketio.exceptions.ConnectionError):
            self.connect({"token": "garbage"}, ["polling"])
