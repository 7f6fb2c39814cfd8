// What is said: acks, the message as others see it, exactly-once, order, history, typing.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { ask, connect, connectSpread, hears, say } from "./lib/clients.mjs";
import { call, newRoom, newUsers, ok } from "./lib/rest.mjs";
import { Server } from "./lib/server.mjs";
import { next, until } from "./lib/wait.mjs";

const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

describe("messages", () => {
  let server, users, alice, bob, carol, roomId;
  before(async () => {
    server = await Server.start({ tables: "[limits]\nmessages_per_second = 0\n" });
    users = await newUsers(server, "사용자🎉", 4);
    [alice, bob, carol] = await connectSpread(server, users.slice(0, 3));
    roomId = await newRoom(server, users.slice(0, 3));
  });
  after(async () => {
    [alice, bob, carol].forEach((socket) => socket.disconnect());
    await server.stop();
  });

  it("are acked and reach everybody, the sender too, as one and the same", async () => {
    const ack = await say(alice, roomId, "안녕하세요 🎉 \"quoted\" \\ \u0000 \u2028 </script>");
    assert.deepEqual(Object.keys(ack).sort(), ["id", "ok", "seq", "timestamp"]);
    assert.match(ack.timestamp, RFC3339);
    const expected = {
      type: "message", id: ack.id, seq: ack.seq, roomId, sender: users[0].username,
      content: "안녕하세요 🎉 \"quoted\" \\ \u0000 \u2028 </script>", timestamp: ack.timestamp,
    };
    for (const socket of [alice, bob, carol]) {
      const message = await until("it is heard", () => socket.heard.find((m) => m.seq === ack.seq));
      assert.deepEqual(message, expected);
    }
  });

  it("are in the log before they are acked", async () => {
    const ack = await say(bob, roomId, "durable");
    const record = server.log().find((m) => m.seq === ack.seq);
    assert.deepEqual([record.id, record.content, record.timestamp], [ack.id, "durable", ack.timestamp]);
    assert.match(record.crc, /^[0-9a-f]{8}$/);
  });

  it("need no ack", async () => {
    bob.emit("send_message", { roomId, content: "no ack" });
    const message = await hears(carol, "no ack");
    assert.equal(message.sender, users[1].username);
  });

  it("carry the sender's clientId to everybody", async () => {
    await say(alice, roomId, "named", { clientId: "한글-1" });
    assert.equal((await hears(bob, "named")).clientId, "한글-1");
  });

  it("repeated with the same clientId are answered with the first one and stored once", async () => {
    const first = await say(alice, roomId, "once", { clientId: "once" });
    for (let retry = 0; retry < 5; retry++) {
      const ack = await say(alice, roomId, "once", { clientId: "once" });
      assert.deepEqual(ack, first);
    }
    const burst = await Promise.all(Array.from({ length: 20 }, () => say(bob, roomId, "burst", { clientId: "burst" })));
    assert.equal(new Set(burst.map((ack) => `${ack.id} ${ack.seq}`)).size, 1);
    await say(alice, roomId, "after the burst");
    await hears(carol, "after the burst");
    assert.equal(carol.heard.filter((m) => m.content === "once").length, 1);
    assert.equal(carol.heard.filter((m) => m.content === "burst").length, 1);
    assert.equal(server.log().filter((m) => m.clientId === "once" || m.clientId === "burst").length, 2);
  });

  it("with the same clientId from another user, or over another connection, are told apart rightly", async () => {
    const [mine, yours] = [await say(alice, roomId, "mine", { clientId: "same" }), await say(bob, roomId, "yours", { clientId: "same" })];
    assert.notEqual(mine.seq, yours.seq);
    const [elsewhere] = (await connectSpread(server, [users[3], users[0]])).slice(1);
    assert.deepEqual(await say(elsewhere, roomId, "mine", { clientId: "same" }), mine);
    elsewhere.disconnect();
  });

  it("of one socket keep the order in which it sent them, acked or not, in whatever room", async () => {
    const second = await newRoom(server, users.slice(0, 3), "second");
    const acks = [];
    const waiting = [];
    for (let at = 0; at < 1_000; at++) {
      const message = { roomId: at % 3 ? roomId : second, content: `order ${at}` };
      if (at % 2) waiting.push(ask(alice, "send_message", message).then((ack) => acks.push(ack.seq)));
      else alice.emit("send_message", message);
    }
    await Promise.all(waiting);
    const wanted = Array.from({ length: 1_000 }, (_, at) => `order ${at}`);
    assert.deepEqual(acks, [...acks].sort((a, b) => a - b));
    for (const socket of [alice, bob, carol]) {
      await hears(socket, "order 999");
      assert.deepEqual(socket.heard.map((m) => m.content).filter((text) => text.startsWith("order ")), wanted);
    }
  });

  it("of several senders on different workers are heard by all in one order, without gaps", async () => {
    const before = (await say(alice, roomId, "start")).seq;
    await Promise.all([alice, bob, carol].flatMap((socket, who) =>
      Array.from({ length: 300 }, (_, at) => say(socket, roomId, `race ${who} ${at}`))));
    for (const socket of [alice, bob, carol]) {
      await until("all 900", () => socket.heard.filter((m) => m.content.startsWith("race ")).length === 900);
      const seqs = socket.heard.map((m) => m.seq).filter((seq) => seq > before);
      assert.deepEqual(seqs, Array.from({ length: 900 }, (_, at) => before + 1 + at));
    }
  });

  it("can be read back in pages, the same over Socket.IO and REST", async () => {
    const room = await newRoom(server, users.slice(0, 2), "pages");
    const seqs = [];
    for (let at = 0; at < 250; at++) seqs.push((await say(at % 2 ? bob : alice, room, `page ${at}`)).seq);
    const over = async (window) => (await ask(bob, "get_messages", { roomId: room, ...window }));
    const pick = (answer) => answer.messages.map((m) => m.seq);

    assert.deepEqual(pick(await over({})), seqs.slice(150), "newest 100, ascending");
    assert.deepEqual(pick(await over({ limit: 7 })), seqs.slice(243));
    assert.deepEqual(pick(await over({ before: seqs[150], limit: 100 })), seqs.slice(50, 150));
    assert.deepEqual(pick(await over({ before: seqs[0] })), []);
    assert.deepEqual(pick(await over({ after: seqs[10], limit: 5 })), seqs.slice(11, 16));
    assert.deepEqual(pick(await over({ after: 0, limit: 1_000 })), seqs);
    assert.deepEqual(pick(await over({ after: seqs[249] })), []);
    assert.deepEqual(pick(await over({ after: seqs[4], before: seqs[8] })), seqs.slice(5, 8));

    const rest = await ok(server, "GET", `/api/chatrooms/${room}/messages?limit=1000`, users[0].token);
    const { messages } = await over({ limit: 1_000 });
    assert.deepEqual(rest, messages);
    assert.deepEqual(Object.keys(rest[0]).sort(), ["content", "id", "roomId", "sender", "seq", "timestamp"]);
    const heard = bob.heard.filter((m) => m.roomId === room).map(({ type, ...message }) => message);
    assert.deepEqual(rest, heard, "history is what was heard live");
  });

  it("are read by everybody who asks at one moment", async () => {
    const crowd = await Promise.all(Array.from({ length: 200 }, (_, at) => connect(server, users[at % 3])));
    const answers = await Promise.all(crowd.map((socket) => ask(socket, "get_messages", { roomId, limit: 1_000 })));
    assert.deepEqual(answers.filter(({ ok }) => !ok), []);
    crowd.forEach((socket) => socket.disconnect());
  });

  it("are shown in the room list by their last seq", async () => {
    const room = await newRoom(server, [users[0]], "last");
    const listed = async () => (await ok(server, "GET", "/api/chatrooms?limit=1000", users[0].token)).find((r) => r.roomId === room);
    assert.equal((await listed()).lastSeq, 0);
    const { seq } = await say(alice, room, "the last");
    await until("lastSeq", async () => (await listed()).lastSeq === seq);
  });

  it("being typed are announced to the others only, and not stored", async () => {
    const stored = server.log().length;
    const told = [];
    for (const socket of [alice, bob, carol]) socket.on("typing", (event) => told.push([socket, event]));
    alice.emit("typing", { roomId });
    await until("two are told", () => told.length === 2);
    bob.emit("typing", { roomId });
    await until("two more are told", () => told.length === 4);
    const by = (username) => told.filter(([, event]) => event.username === username);
    assert.deepEqual(new Set(by(users[0].username).map(([socket]) => socket)), new Set([bob, carol]));
    assert.deepEqual(new Set(by(users[1].username).map(([socket]) => socket)), new Set([alice, carol]));
    assert.deepEqual(told[0][1], { roomId, username: users[0].username });
    for (const socket of [alice, bob, carol]) socket.off("typing");
    assert.equal(server.log().length, stored);
  });

  it("can't be sent, read or typed by somebody who is not in the room", async () => {
    const [stranger] = (await connectSpread(server, [users[3]]));
    const words = { message: "You are not a member of this chat room", code: "NOT_A_MEMBER" };
    assert.deepEqual(await ask(stranger, "send_message", { roomId, content: "hi" }), { ok: false, ...words });
    assert.deepEqual(await ask(stranger, "get_messages", { roomId }), { ok: false, ...words });
    for (const [event, argument] of [["send_message", { roomId, content: "hi" }], ["typing", { roomId }]]) {
      const refused = next(stranger, "error");
      stranger.emit(event, argument);
      assert.deepEqual((await refused)[0], words, event);
    }
    const { status, body } = await call(server, "GET", `/api/chatrooms/${roomId}/messages`, { token: users[3].token });
    assert.deepEqual([status, body.code], [403, "NOT_A_MEMBER"]);
    assert.equal(server.log().filter((m) => m.content === "hi").length, 0);
    stranger.disconnect();
  });

  it("of exactly 4,000 characters are taken, whatever the script; one more is refused", async () => {
    for (const character of ["a", "가", "🎉"]) {
      const text = character.repeat(4_000);
      await say(alice, roomId, text);
      await hears(bob, text);
      const refused = await ask(alice, "send_message", { roomId, content: text + character });
      assert.deepEqual([refused.ok, refused.code], [false, "CONTENT_TOO_LONG"]);
    }
  });
});
