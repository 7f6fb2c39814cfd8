// Who gets in, and how: tokens in three places, open mode, namespaces, the handshake's answer.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { ask, client, connect, connectOn, connected, frame, raw, refusal, say, workerOf } from "./lib/clients.mjs";
import { claimsOf, sign } from "./lib/jwt.mjs";
import { call, newRoom, newUsers } from "./lib/rest.mjs";
import { SECRET, Server } from "./lib/server.mjs";
import { next, until } from "./lib/wait.mjs";

describe("connecting with a token", () => {
  let server, alice;
  before(async () => {
    server = await Server.start();
    [alice] = await newUsers(server, "alice", 1);
  });
  after(() => server.stop());

  it("works in the CONNECT payload, the query and the Authorization header", async () => {
    const places = {
      payload: { auth: { token: alice.token } },
      query: { query: { token: alice.token } },
      header: { extraHeaders: { Authorization: `Bearer ${alice.token}` } },
    };
    for (const [place, options] of Object.entries(places)) {
      const socket = client(server, options);
      await connected(socket);
      assert.ok(socket.id, place);
      socket.disconnect();
    }
  });

  it("works on every worker", async () => {
    for (const worker of [0, 1]) {
      const socket = await connectOn(server, worker, alice);
      assert.equal(workerOf(server, socket), worker);
      socket.disconnect();
    }
  });

  it("is refused for no token, and for any bad one, wherever it is put", async () => {
    const claims = claimsOf(alice.token);
    const now = Math.floor(Date.now() / 1000);
    const [header, body, signature] = alice.token.split(".");
    const bad = {
      none: undefined,
      empty: "",
      garbage: "garbage",
      "a number": 5,
      "an array": [alice.token],
      null: null,
      "three dots": "...",
      "10,000 characters": "x".repeat(10_000),
      "forged (other secret)": sign(claims, "some other secret of good length, 32+ bytes"),
      "forged (signature cut)": `${header}.${body}.${signature.slice(0, -4)}`,
      "forged (claims swapped)": `${header}.${sign({ ...claims, sub: claims.sub + 1 }, "x").split(".")[1]}.${signature}`,
      "forged (alg none)": `${sign(claims, SECRET, { alg: "none", typ: "JWT" }).split(".").slice(0, 2).join(".")}.`,
      "forged (alg HS512 named)": sign(claims, SECRET, { alg: "HS512", typ: "JWT" }),
      expired: sign({ ...claims, iat: now - 7200, exp: now - 3600 }, SECRET),
      "without expiry": sign({ ...claims, exp: undefined }, SECRET),
      "of a user that is not there": sign({ ...claims, sub: 999_999, username: "nobody" }, SECRET),
    };
    for (const [what, token] of Object.entries(bad)) {
      const refused = await refusal(server, { auth: token === undefined ? {} : { token } });
      assert.equal(refused.message, "Authentication error", `payload: ${what}`);
      if (typeof token !== "string") continue;
      const inQuery = await refusal(server, { query: { token } });
      assert.equal(inQuery.message, "Authentication error", `query: ${what}`);
      const inHeader = await refusal(server, { extraHeaders: { Authorization: `Bearer ${token}` } });
      assert.equal(inHeader.message, "Authentication error", `header: ${what}`);
    }
    assert.equal((await refusal(server, {})).message, "Authentication error", "no payload at all");
  });

  it("is refused for ?username= when the mode is not open", async () => {
    assert.equal((await refusal(server, { query: { username: "alice0" } })).message, "Authentication error");
  });

  it("is possible after a refusal, for the same client object", async () => {
    const socket = client(server, { auth: { token: "garbage" } });
    await assert.rejects(connected(socket), { message: "Authentication error" });
    socket.auth = { token: alice.token };
    await connected(socket);
    socket.disconnect();
  });

  it("refuses a namespace that is not there, and says so", async () => {
    const refused = await refusal(server, { auth: { token: alice.token } }, "/nowhere");
    assert.equal(refused.message, "Invalid namespace");
  });

  it("refuses an unknown namespace beside the chat without hurting the chat", async () => {
    const socket = await connect(server, alice);
    const other = socket.io.socket("/admin", { auth: { token: alice.token } });
    const told = next(other, "connect_error");
    other.connect();
    const [refused] = await told;
    assert.equal(refused.message, "Invalid namespace");
    assert.equal(socket.connected, true);
    assert.equal((await ask(socket, "get_messages", { roomId: "none" })).ok, false);
    socket.disconnect();
  });

  it("answers the handshake with its parameters", async () => {
    const ws = await raw(server);
    const { sid, upgrades, pingInterval, pingTimeout, maxPayload } = ws.handshake;
    assert.ok(typeof sid === "string" && sid.length >= 16, sid);
    assert.deepEqual({ upgrades, pingInterval, pingTimeout, maxPayload },
      { upgrades: [], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: 1_000_000 });
    ws.terminate();
  });

  it("gives every connection a sid of its own and CONNECT one that is not it", async () => {
    const seen = new Set();
    for (let count = 0; count < 20; count++) {
      const ws = await raw(server, { token: alice.token });
      const { sid } = JSON.parse((await frame(ws, "40{")).slice(2));
      assert.notEqual(sid, ws.handshake.sid);
      seen.add(sid).add(ws.handshake.sid);
      ws.terminate();
    }
    assert.equal(seen.size, 40);
  });

  it("refuses pages of other origins and lets in its own and loopback ones", async () => {
    await assert.rejects(raw(server, { options: { origin: "https://evil.example" } }));
    for (const origin of [`http://127.0.0.1:${server.port}`, "http://localhost:3000"]) {
      const ws = await raw(server, { options: { origin } });
      ws.terminate();
    }
  });

  it("takes a client off the books when it leaves", async () => {
    const total = () => server.processes("worker").reduce((sum, p) => sum + p.connections, 0);
    await until("earlier clients are gone", () => total() === 0);
    const sockets = await Promise.all(Array.from({ length: 10 }, () => connect(server, alice)));
    await until("ten are counted", () => total() === 10);
    const { body: stats } = await call(server, "GET", "/api/stats");
    assert.deepEqual(stats.processes.map((p) => p.role).sort(), ["storage", "supervisor", "worker", "worker"]);
    for (const p of stats.processes) {
      assert.ok(p.pid > 0 && p.uptime_s >= 0 && p.restarts === 0 && p.rss_bytes > 0, JSON.stringify(p));
    }
    sockets.forEach((socket) => socket.disconnect());
    await until("none is counted", () => total() === 0);
  });
});

describe("connecting in open mode", () => {
  let server, alice, bob;
  before(async () => {
    server = await Server.start({ auth: `mode = "open"\n` });
    [alice, bob] = await newUsers(server, "사용자", 2);
  });
  after(() => server.stop());

  it("believes the name of an existing user", async () => {
    const roomId = await newRoom(server, [alice, bob]);
    const socket = client(server, { query: { username: alice.username } });
    const heard = next(socket, "message");
    await connected(socket);
    await say(socket, roomId, "hello");
    assert.equal((await heard)[0].sender, alice.username);
    socket.disconnect();
  });

  it("still takes tokens", async () => {
    const socket = await connect(server, bob);
    socket.disconnect();
  });

  it("refuses the name of nobody, and a bad token even beside a good name", async () => {
    assert.equal((await refusal(server, { query: { username: "nobody" } })).message, "Authentication error");
    assert.equal((await refusal(server, { query: { username: "" } })).message, "Authentication error");
    const both = { query: { username: alice.username }, auth: { token: "garbage" } };
    assert.equal((await refusal(server, both)).message, "Authentication error");
  });
});
