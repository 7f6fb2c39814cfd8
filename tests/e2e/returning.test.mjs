// Clients that come back where it is hard to know what they have missed: at a worker that knows less than
// they do, and to an index that no longer knows who left when.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import path from "node:path";
import { it } from "node:test";
import { connect, connectOn, frame, hears, raw, say } from "./lib/clients.mjs";
import { Link } from "./lib/link.mjs";
import { newRoom, newUsers, ok } from "./lib/rest.mjs";
import { Server, alive, binary } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

// A session that nobody has entered the chat over yet, at that worker.
async function rawOn(server, worker) {
  for (let attempt = 0; attempt < 200; attempt++) {
    const ws = await raw(server);
    let at;
    await until("the client's worker", () => (at = server.workerOfPort(ws._socket.localPort)) !== null);
    if (at === worker) return ws;
    ws.terminate();
  }
  throw new Error(`200 connections and none on worker ${worker}`);
}

// The event frames a client has got, without their names.
const messages = (ws) => ws.frames.filter((text) => text.startsWith('42["message"')).map((text) => JSON.parse(text.slice(2))[1]);

it("a client that has heard more than its new worker waits for it, and goes on without hearing anything twice", async () => {
  const server = await Server.start({ workers: 2 });
  const link = await Link.start(server);
  try {
    const users = await newUsers(server, "user", 3);
    const room = await newRoom(server, users);
    const [, { pid }] = server.processes("worker");
    process.kill(pid, "SIGKILL"); // its successor is behind the link
    await until("the worker is gone", () => !alive(pid));
    await server.ready();

    const alice = await connectOn(server, 0, users[0]);
    const bob = await connectOn(server, 0, users[1]);
    await say(alice, room, "everywhere");
    link.hold();
    for (let at = 0; at < 5; at++) await say(alice, room, `not yet at the other worker ${at}`);
    await hears(bob, "not yet at the other worker 4");
    const session = { pid: bob._pid, offset: bob._lastOffset };
    assert.ok(session.pid && session.offset);
    bob.disconnect();

    const back = await rawOn(server, 1);
    back.send(`40${JSON.stringify({ token: users[1].token, ...session })}`);
    const since = await rawOn(server, 1);
    since.send(`40${JSON.stringify({ token: users[1].token, since: bob.heard.at(-1).seq })}`);
    // Somebody who comes after them is let in by what the worker knows.
    const carol = await rawOn(server, 1);
    carol.send(`40${JSON.stringify({ token: users[2].token })}`);
    await frame(carol, "40{");
    assert.deepEqual([...back.frames, ...since.frames].filter((text) => !text.startsWith("0")), []);

    link.release();
    assert.equal(JSON.parse((await frame(back, "40{")).slice(2)).pid, session.pid, "the session goes on");
    await frame(since, "40{");
    await say(alice, room, "to all");
    for (const ws of [back, since]) {
      await until("the new message", () => messages(ws).length > 0);
      assert.deepEqual(messages(ws).map(({ content }) => content), ["to all"]);
    }
    for (const ws of [back, since, carol]) ws.terminate();
    alice.disconnect();
  } finally {
    link.stop();
    await server.stop();
  }
});

it("a client that was away when the index was made of a compacted log is told of a gap, once", async () => {
  const server = await Server.start({ workers: 1 });
  const minitalk = (command) => execFileSync(binary, [command, "--data-dir", server.dataDir], { stdio: "pipe" });
  try {
    const users = await newUsers(server, "user", 2);
    const [alice, bob] = users;
    const [stays, leaves] = [await newRoom(server, users, "stays"), await newRoom(server, users, "leaves")];
    let speaker = await connect(server, alice);
    const client = await connect(server, bob);
    await say(speaker, stays, "heard");
    await hears(client, "heard");
    const session = { pid: client._pid, offset: client._lastOffset };
    client.disconnect();

    const due = await say(speaker, leaves, "due: he is in this room");
    await ok(server, "POST", `/api/chatrooms/${leaves}/leave`, bob.token, {});
    const last = await say(speaker, stays, "due as well");
    speaker.disconnect();
    await server.stop({ keep: true });
    minitalk("compact");
    rmSync(path.join(server.dataDir, "index"), { recursive: true });
    minitalk("reindex");
    await server.serve();

    // Nothing says any more that he was in that room: what he missed can't be told whole.
    const back = await raw(server);
    back.send(`40${JSON.stringify({ token: bob.token, ...session })}`);
    const answer = JSON.parse((await frame(back, "40{")).slice(2));
    assert.notEqual(answer.pid, session.pid, "a new session");
    assert.deepEqual(JSON.parse((await frame(back, '42["gap"')).slice(2))[1], { from: due.seq, to: last.seq });
    assert.deepEqual(messages(back), []);
    back.terminate();

    // Who goes away from now on is told all of it.
    speaker = await connect(server, alice);
    await say(speaker, stays, "missed later");
    const again = await raw(server);
    again.send(`40${JSON.stringify({ token: bob.token, pid: answer.pid })}`);
    assert.equal(JSON.parse((await frame(again, "40{")).slice(2)).pid, answer.pid, "the session goes on");
    await until("what was missed", () => messages(again).length > 0);
    assert.deepEqual(messages(again).map(({ content }) => content), ["missed later"]);
    again.terminate();
    speaker.disconnect();
  } finally {
    await server.stop();
  }
});
