// A socket is in the rooms of its user from the start, and follows invitations, joins and leaves
// made over REST from any worker, while it is connected.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { ask, connectOn, connectSpread, hears, say } from "./lib/clients.mjs";
import { call, newRoom, newUsers, ok } from "./lib/rest.mjs";
import { Server } from "./lib/server.mjs";
import { next, until } from "./lib/wait.mjs";

describe("rooms", () => {
  let server, users, sockets;
  before(async () => {
    server = await Server.start();
    users = await newUsers(server, "member", 4);
    sockets = await connectSpread(server, users);
  });
  after(async () => {
    sockets.forEach((socket) => socket.disconnect());
    await server.stop();
  });

  const invite = (roomId, by, who) =>
    ok(server, "POST", `/api/chatrooms/${roomId}/invite`, by.token, { participants: who.map((u) => u.username) });

  it("are heard without asking, by every connection of every member, on both workers", async () => {
    const roomId = await newRoom(server, users.slice(0, 3));
    const again = [await connectOn(server, 0, users[1]), await connectOn(server, 1, users[1])];
    await say(sockets[0], roomId, "to all of us");
    for (const socket of [...sockets.slice(0, 3), ...again]) await hears(socket, "to all of us");
    assert.equal(sockets[3].heard.length, 0, "not a member");
    again.forEach((socket) => socket.disconnect());
  });

  it("that are made while connected are heard at once", async () => {
    // Ten times, since the call lands on either worker.
    for (let round = 0; round < 10; round++) {
      const roomId = await newRoom(server, [users[0], users[1]]);
      await say(sockets[0], roomId, `new room ${round}`);
      await hears(sockets[1], `new room ${round}`);
    }
  });

  it("made in a batch are heard at once", async () => {
    const rooms = Array.from({ length: 20 }, (_, at) => ({ name: `batch ${at}`, participants: [users[1].username] }));
    const { created, errors } = await ok(server, "POST", "/api/chatrooms-batch", users[0].token, { rooms });
    assert.deepEqual([created.length, errors], [20, []]);
    for (const room of created) await say(sockets[0], room.roomId, `in ${room.name} ${room.roomId}`);
    for (const room of created) await hears(sockets[1], `in ${room.name} ${room.roomId}`);
  });

  it("are heard from an invitation on, and not before", async () => {
    for (let round = 0; round < 10; round++) {
      const roomId = await newRoom(server, [users[0]]);
      await say(sockets[0], roomId, `before ${roomId}`);
      await invite(roomId, users[0], [users[1], users[2]]);
      await say(sockets[0], roomId, `after ${roomId}`);
      for (const socket of sockets.slice(1, 3)) {
        await hears(socket, `after ${roomId}`);
        assert.ok(!socket.heard.some((m) => m.content === `before ${roomId}`));
      }
      await say(sockets[2], roomId, `the invited speaks ${roomId}`);
      await hears(sockets[1], `the invited speaks ${roomId}`);
    }
  });

  it("that are open can be joined while connected", async () => {
    const body = { name: "open", open: true };
    const { roomId } = await ok(server, "POST", "/api/chatrooms", users[0].token, body);
    await ok(server, "POST", `/api/chatrooms/${roomId}/join`, users[3].token);
    await say(sockets[0], roomId, `welcome to ${roomId}`);
    await hears(sockets[3], `welcome to ${roomId}`);
  });

  it("are silent after leaving, on every connection of the user", async () => {
    for (let round = 0; round < 10; round++) {
      const roomId = await newRoom(server, users.slice(0, 3));
      await say(sockets[0], roomId, `all ${roomId}`);
      for (const socket of sockets.slice(0, 3)) await hears(socket, `all ${roomId}`);
      await ok(server, "POST", `/api/chatrooms/${roomId}/leave`, users[1].token);
      await say(sockets[0], roomId, `without you ${roomId}`);
      await hears(sockets[2], `without you ${roomId}`);
      // What comes later in the one order has come, so the other would have come before it.
      const common = await newRoom(server, users.slice(0, 3));
      await say(sockets[0], common, `later ${roomId}`);
      await hears(sockets[1], `later ${roomId}`);
      assert.ok(!sockets[1].heard.some((m) => m.content === `without you ${roomId}`));
      const refused = await ask(sockets[1], "send_message", { roomId, content: "may I?" });
      assert.deepEqual([refused.ok, refused.code], [false, "NOT_A_MEMBER"]);
    }
  });

  it("can be left and entered again by one socket with leave_room and join_room", async () => {
    const roomId = await newRoom(server, users.slice(0, 2));
    const left = next(sockets[1], "left_room");
    sockets[1].emit("leave_room", { roomId });
    assert.deepEqual((await left)[0], { roomId });
    await say(sockets[0], roomId, "while away");

    const joined = next(sockets[1], "joined_room");
    const ack = await ask(sockets[1], "join_room", { roomId });
    assert.deepEqual((await joined)[0], { roomId });
    assert.deepEqual([ack.ok, ack.roomId], [true, roomId]);
    const missed = await ask(sockets[1], "get_messages", { roomId });
    assert.equal(ack.lastSeq, missed.messages.at(-1).seq, "lastSeq says what was missed");

    await say(sockets[0], roomId, "back again");
    await hears(sockets[1], "back again");
    assert.ok(!sockets[1].heard.some((m) => m.content === "while away"));
  });

  it("left by one socket are still heard by the user's other socket", async () => {
    const roomId = await newRoom(server, users.slice(0, 2));
    const second = await connectOn(server, 0, users[1]);
    const left = next(sockets[1], "left_room");
    sockets[1].emit("leave_room", { roomId });
    await left;
    await say(sockets[0], roomId, "only one of you");
    await hears(second, "only one of you");
    assert.ok(!sockets[1].heard.some((m) => m.content === "only one of you"));
    second.disconnect();
  });

  it("of others can't be entered", async () => {
    const roomId = await newRoom(server, users.slice(0, 2));
    const refused = next(sockets[3], "error");
    sockets[3].emit("join_room", { roomId });
    assert.deepEqual((await refused)[0],
      { message: "You are not a member of this chat room", code: "NOT_A_MEMBER" });
    // An ack makes no difference, as it makes none to `joined_room`.
    const again = next(sockets[3], "error");
    const ack = await ask(sockets[3], "join_room", { roomId });
    assert.deepEqual([ack.ok, ack.code], [false, "NOT_A_MEMBER"]);
    assert.deepEqual((await again)[0], { message: ack.message, code: ack.code });
    await say(sockets[0], roomId, "among us");
    await hears(sockets[1], "among us");
    assert.ok(!sockets[3].heard.some((m) => m.content === "among us"));
  });

  it("are gone when the last member has left", async () => {
    const roomId = await newRoom(server, [users[0]]);
    await ok(server, "POST", `/api/chatrooms/${roomId}/leave`, users[0].token);
    const { status } = await call(server, "GET", `/api/chatrooms/${roomId}/messages`, { token: users[0].token });
    assert.equal(status, 404);
    assert.equal((await ask(sockets[0], "send_message", { roomId, content: "anyone?" })).ok, false);
  });

  it("in great number are all entered at once", async () => {
    const [many] = await newUsers(server, "manyrooms", 1);
    const rooms = Array.from({ length: 2_000 }, (_, at) => ({ name: `m${at}`, participants: [users[0].username] }));
    const { created } = await ok(server, "POST", "/api/chatrooms-batch", many.token, { rooms });
    const socket = await connectOn(server, 1, many);
    for (const at of [0, 999, 1_999]) await say(sockets[0], created[at].roomId, `room ${at}`);
    await until("all three", () => socket.heard.length === 3);
    assert.deepEqual(socket.heard.map((m) => m.content), ["room 0", "room 999", "room 1999"]);
    socket.disconnect();
  });
});
