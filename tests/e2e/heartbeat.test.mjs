// Heartbeats both ways: who answers stays, who doesn't is closed.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { connect, hears, raw, say, closing } from "./lib/clients.mjs";
import { newRoom, newUsers } from "./lib/rest.mjs";
import { Server } from "./lib/server.mjs";
import { next, until } from "./lib/wait.mjs";

describe("heartbeats", () => {
  let server, alice, bob, roomId;
  before(async () => {
    server = await Server.start({ tables: '[socketio]\nping_interval = "200ms"\nping_timeout = "2s"\n' });
    [alice, bob] = await newUsers(server, "user", 2);
    roomId = await newRoom(server, [alice, bob]);
  });
  after(() => server.stop());

  it("keep a stock client connected that does nothing else", async () => {
    const socket = await connect(server, alice);
    let pings = 0;
    socket.io.on("ping", () => (pings += 1));
    await until("twenty pings", () => pings >= 20);
    assert.equal(socket.connected, true);
    await say(socket, roomId, "still here");
    await hears(socket, "still here");
    socket.disconnect();
  });

  it("close a client that stops answering, however much it says otherwise", async () => {
    for (const chatty of [false, true]) {
      const ws = await raw(server, { token: bob.token, answerPings: false });
      const timer = chatty && setInterval(() => ws.send('42["typing",{"roomId":"x"}]'), 100);
      const { code } = await closing(ws).finally(() => clearInterval(timer));
      assert.notEqual(code, 1006, "it is told");
      assert.ok(ws.pings >= 1);
    }
  });

  it("reach a client that has not done CONNECT yet", async () => {
    const ws = await raw(server);
    await until("a ping", () => ws.pings >= 1 || ws.closed);
    assert.ok(ws.pings >= 1);
    ws.terminate();
  });

  it("of WebSocket itself are answered with the same words", async () => {
    const ws = await raw(server, { token: bob.token });
    for (const word of ["", "word", "x".repeat(125)]) {
      const answered = next(ws, "pong");
      ws.ping(word);
      assert.equal((await answered)[0].toString(), word);
    }
    ws.terminate();
  });

  it("don't disturb a client that says goodbye", async () => {
    const ws = await raw(server, { token: bob.token });
    ws.send("41"); // leaves the chat
    ws.close(1000);
    assert.equal((await closing(ws)).code, 1000);
  });
});
