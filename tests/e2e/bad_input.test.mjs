// Everything a client can get wrong. After each single mistake: a clear answer or a closed connection,
// the same processes as before, and the next client is served as if nothing had happened.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import WebSocket from "ws";
import { ask, closing, connect, connectSpread, frame, hears, raw, say } from "./lib/clients.mjs";
import { call, newRoom, newUsers } from "./lib/rest.mjs";
import { Server } from "./lib/server.mjs";
import { next, until } from "./lib/wait.mjs";

const MEGABYTE = 1_000_000;
const BODY_LIMIT = 2_000_000;

describe("bad input", () => {
  let server, users, roomId, processes, watchers;
  before(async () => {
    server = await Server.start({ tables: `[limits]\nbody_bytes = ${BODY_LIMIT}\n` });
    users = await newUsers(server, "user", 3);
    roomId = await newRoom(server, users.slice(0, 2));
    processes = server.fingerprint();
    watchers = await connectSpread(server, users.slice(0, 2)); // one on each worker
  });
  after(async () => {
    watchers.forEach((socket) => socket.disconnect());
    await server.stop();
  });

  // The harm check after every test.
  let turn = 0;
  afterEach(async () => {
    assert.deepEqual(server.fingerprint(), processes, "a process was restarted");
    turn += 1;
    await say(watchers[0], roomId, `still here ${turn}`);
    await hears(watchers[1], `still here ${turn}`);
    for (const socket of watchers) assert.equal(socket.connected, true);
    const next = await connect(server, users[2]);
    next.disconnect();
  });

  describe("in events", () => {
    let socket;
    beforeEach(async () => (socket = await connect(server, users[0])));
    afterEach(() => socket.disconnect());

    // Refused with an ack and, when no ack is asked, with an `error` event; the socket lives on.
    async function refused(event, args, code) {
      const label = JSON.stringify([event, ...args]).slice(0, 120);
      const codes = [code].flat();
      const ack = await ask(socket, event, ...args);
      assert.ok(ack.ok === false && codes.includes(ack.code), `${label}: ${JSON.stringify(ack)}`);
      assert.ok(typeof ack.message === "string" && ack.message.length > 3, label);
      const told = next(socket, "error");
      socket.emit(event, ...args);
      const [error] = await told;
      assert.deepEqual(error, { message: ack.message, code: ack.code }, label);
      assert.equal(socket.connected, true, label);
      return ack.message;
    }

    const NOT_TEXT = [undefined, null, 5, 1.5, true, [], ["x"], {}, { toString: "x" }];

    it("send_message without its fields", async () => {
      const message = "roomId and content are required";
      for (const args of [[], [null], [{}], [{ roomId }], [{ content: "x" }], [{ roomId, content: "" }],
        [{ roomId: "", content: "x" }], [{ roomId: null, content: null }], [[]], ["text"], [5], [[roomId, "x"]]])
        assert.equal(await refused("send_message", args, "INVALID_REQUEST"), message, JSON.stringify(args));
    });

    it("send_message with fields of other types", async () => {
      for (const value of NOT_TEXT) {
        await refused("send_message", [{ roomId: value, content: "x" }], "INVALID_REQUEST");
        await refused("send_message", [{ roomId, content: value }], "INVALID_REQUEST");
        if (value !== undefined && value !== null)
          await refused("send_message", [{ roomId, content: "x", clientId: value }], "INVALID_REQUEST");
      }
      await refused("send_message", [{ roomId, content: "x", clientId: "" }], "INVALID_REQUEST");
      await refused("send_message", [{ roomId, content: "x", clientId: "c".repeat(10_000) }], "INVALID_REQUEST");
    });

    it("send_message with too much content", async () => {
      await refused("send_message", [{ roomId, content: "x".repeat(10_000) }], "CONTENT_TOO_LONG");
      await refused("send_message", [{ roomId, content: "가".repeat(300_000) }], "CONTENT_TOO_LONG");
    });

    it("rooms that are not there", async () => {
      for (const room of ["nowhere", "x".repeat(10_000), "../../etc/passwd", "방🎉", "\u0000", "' OR 1=1 --", "\"", "\\"])
        for (const event of ["send_message", "join_room", "typing", "get_messages"])
          await refused(event, [{ roomId: room, content: "x" }], ["NOT_A_MEMBER", "ROOM_NOT_FOUND", "INVALID_REQUEST"]);
    });

    it("join_room, leave_room, typing and get_messages without a room", async () => {
      for (const event of ["join_room", "leave_room", "typing", "get_messages"])
        for (const args of [[], [null], [{}], [[]], ["text"], [5], ...NOT_TEXT.map((value) => [{ roomId: value }])])
          await refused(event, args, "INVALID_REQUEST");
    });

    it("get_messages with windows that are none", async () => {
      for (const field of ["before", "after", "limit"])
        for (const value of ["1", "x", -1, 1.5, 1e300, [], {}, true])
          await refused("get_messages", [{ roomId, [field]: value }], "INVALID_REQUEST");
    });

    it("events nobody knows", async () => {
      for (const event of ["nonsense", "", "__proto__", "constructor", "🎉", "x".repeat(10_000), "message", "error "])
        await refused(event, [{ roomId, content: "x" }], "UNKNOWN_EVENT");
    });

    it("binary where text is due", async () => {
      const bytes = Buffer.from([0xff, 0xfe, 0x00]);
      await refused("send_message", [{ roomId, content: bytes }], "INVALID_REQUEST");
      await refused("send_message", [{ roomId: bytes, content: "x" }], "INVALID_REQUEST");
      await refused("send_message", [bytes], "INVALID_REQUEST");
      await refused("join_room", [{ roomId: bytes }], "INVALID_REQUEST");
      await refused("nonsense", [bytes], "UNKNOWN_EVENT");
    });

    it("more arguments and more fields than are asked for do no harm", async () => {
      const ack = await ask(socket, "send_message", { roomId, content: "extra", seq: 7, sender: "root", id: "x", type: "y" }, 1, {}, "z");
      assert.equal(ack.ok, true);
      const message = await hears(watchers[1], "extra");
      assert.deepEqual([message.seq, message.sender, message.type, message.id], [ack.seq, users[0].username, "message", ack.id]);
    });

    it("deep nesting", async () => {
      const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
      const ws = await raw(server, { token: users[0].token });
      ws.send(`42["send_message",${deep}]`);
      await until("an answer", () => ws.closed || ws.frames.some((text) => text.startsWith('42["error"')));
      ws.terminate();
    });
  });

  describe("in packets", () => {
    // Both before and after CONNECT, each on a connection of its own.
    const lone = Buffer.from([0x34, 0x32, 0xc3, 0x28]); // "42" and a broken UTF-8 sequence
    const bad = {
      "invalid UTF-8": [lone, { binary: false }],
      "invalid JSON in an event": ['42["send_message",{"roomId":]'],
      "an event that is no array": ['42{"send_message":1}'],
      "an event without a name": ["42[]"],
      "an event with a number for a name": ["42[1]"],
      "an event cut short": ['42["send_message"'],
      "an event followed by more": ['42["send_message",{}] x'],
      "an unknown Engine.IO packet": ["9"],
      "an unknown Socket.IO packet": ["49"],
      "an empty frame": [""],
      "an empty message": ["4"],
      "words": ["hello"],
      "an ack nobody waits for, with no array": ["431"],
      "an ack id beyond all numbers": ['4299999999999999999999["send_message"]'],
      "more attachments than anybody needs": ['45999999-["send_message"]'],
      "attachments without a number": ['45-["send_message"]'],
      "text where an attachment is due": ['451-["send_message",{"_placeholder":true,"num":0}]', {}, '42["typing"]'],
      "a binary frame nobody announced": [Buffer.from([1, 2, 3]), { binary: true }],
      "an upgrade packet on a websocket": ["5"],
      "a probe on a websocket": ["2probe"],
      "a second CONNECT": ["40"],
      "a server's own packet": ['0{"sid":"x"}'],
      "a CONNECT_ERROR from a client": ['44{"message":"x"}'],
    };
    for (const [what, [payload, options, more]] of Object.entries(bad)) {
      it(`${what}`, async () => {
        for (const token of [undefined, users[0].token]) {
          const ws = await raw(server, { token });
          ws.send(payload, options ?? {});
          if (more) ws.send(more);
          // Harmless ones may be ignored: then the connection must still work.
          ws.send('42["nonsense"]');
          await until(`${what}: an answer`, () =>
            ws.closed || ws.frames.some((text) => typeof text === "string" && /^(42\["error"|44)/.test(text)));
          if (ws.closed) assert.notEqual(ws.closed.code, 1006, `${what}: closed without a close frame`);
          ws.terminate();
        }
      });
    }

    it("invalid UTF-8 is closed with 1007", async () => {
      const ws = await raw(server, { token: users[0].token });
      ws.send(lone, { binary: false });
      assert.equal((await closing(ws)).code, 1007);
    });

    it("invalid UTF-8 split over two fragments is closed with 1007", async () => {
      const ws = await raw(server, { token: users[0].token });
      ws.send(Buffer.from([0x34, 0x32, 0xc3]), { binary: false, fin: false });
      ws.send(Buffer.from([0x28]), { binary: false, fin: true });
      assert.equal((await closing(ws)).code, 1007);
    });

    it("1 MB is taken, one byte more is closed with 1009", async () => {
      const event = (bytes) => {
        const text = `42["send_message",{"roomId":"${roomId}","content":""}]`;
        return text.replace('"content":""', `"content":"${"x".repeat(bytes - text.length)}"`);
      };
      const ws = await raw(server, { token: users[0].token });
      ws.send(event(MEGABYTE));
      assert.match(await frame(ws, '42["error"'), /CONTENT_TOO_LONG/);
      assert.equal(ws.closed, null);
      ws.send(event(MEGABYTE + 1));
      assert.equal((await closing(ws)).code, 1009);
    });

    it("1 MB + 1 in fragments is closed with 1009", async () => {
      const ws = await raw(server, { token: users[0].token });
      const piece = "x".repeat(100_000);
      for (let count = 0; count < 10; count++) ws.send(piece, { fin: false });
      ws.send("x", { fin: true });
      assert.equal((await closing(ws)).code, 1009);
    });

    it("1 MB + 1 of a binary attachment is closed with 1009", async () => {
      const ws = await raw(server, { token: users[0].token });
      ws.send('451-["send_message",{"_placeholder":true,"num":0}]');
      ws.send(Buffer.alloc(MEGABYTE + 1));
      assert.equal((await closing(ws)).code, 1009);
    });

    it("a message in many fragments, with pings between, is one message", async () => {
      const ws = await raw(server, { token: users[0].token });
      const text = `42["send_message",{"roomId":"${roomId}","content":"조각조각 🎉"}]`;
      const bytes = Buffer.from(text);
      for (let at = 0; at < bytes.length; at++) {
        ws.send(bytes.subarray(at, at + 1), { binary: false, fin: at === bytes.length - 1 });
        if (at % 10 === 0) ws.ping("are you there?");
      }
      await hears(watchers[1], "조각조각 🎉");
      ws.terminate();
    });

    it("a client that vanishes without a word", async () => {
      for (let count = 0; count < 50; count++) {
        const ws = await raw(server, { token: users[0].token });
        ws.send('42["send_me', { fin: false });
        ws._socket.resetAndDestroy();
      }
      const held = () => server.processes("worker").reduce((sum, p) => sum + p.connections, 0);
      await until("the worker has noticed", () => held() === watchers.length);
    });

    it("a close that is no close", async () => {
      for (const payload of [[0x03], [0x00, 0x01], [0x03, 0xe8, 0xff]]) {
        const ws = await raw(server, { token: users[0].token });
        const header = [0x88, 0x80 | payload.length, 0, 0, 0, 0];
        ws._socket.write(Buffer.from([...header, ...payload]));
        await closing(ws);
      }
    });

    it("a frame that is not masked, a reserved bit, a reserved opcode", async () => {
      for (const bytes of [[0x81, 0x01, 0x32], [0xc1, 0x81, 0, 0, 0, 0, 0x32], [0x83, 0x81, 0, 0, 0, 0, 0x32]]) {
        const ws = await raw(server, { token: users[0].token });
        ws._socket.write(Buffer.from(bytes));
        assert.equal((await closing(ws)).code, 1002);
      }
    });
  });

  describe("at the handshake", () => {
    it("is refused and spares the server", async () => {
      for (const query of ["", "?", "?EIO=4", "?EIO=4&transport=", "?EIO=4&transport=carrier-pigeon",
        "?EIO=3&transport=websocket", "?EIO=4&transport=websocket&sid=none", `?EIO=4&transport=websocket&sid=${"x".repeat(10_000)}`,
        "?EIO=%ff&transport=%ff", "?transport=websocket"]) {
        const ws = new WebSocket(`ws://127.0.0.1:${server.port}/socket.io/${query}`);
        ws.on("error", () => {});
        const [, response] = await next(ws, "unexpected-response");
        assert.equal(response.statusCode, 400, query);
        response.destroy();
      }
    });
  });

  describe("over REST", () => {
    it("bodies that are no JSON or no UTF-8", async () => {
      for (const payload of ["", "{", "nonsense", '{"username":"a"', Buffer.from([0xff, 0xfe]), Buffer.from('{"username":"\xff"}', "latin1")])
        for (const path of ["/api/auth/signup", "/api/auth/login", "/api/auth/signup-batch", "/api/chatrooms"]) {
          const { status, body } = await call(server, "POST", path, { payload, token: users[0].token });
          assert.equal(status, 400, path);
          assert.ok(["INVALID_JSON", "INVALID_REQUEST"].includes(body.code), `${path}: ${JSON.stringify(body)}`);
          assert.ok(body.error.length > 3);
        }
    });

    it("bodies at the limit and one byte over it", async () => {
      const body = (bytes) => `{"users":[]${" ".repeat(bytes - 12)}}`;
      const at = await call(server, "POST", "/api/auth/signup-batch", { payload: body(BODY_LIMIT) });
      assert.ok([201, 400].includes(at.status), `${at.status}`);
      const over = await call(server, "POST", "/api/auth/signup-batch", { payload: body(BODY_LIMIT + 1) });
      assert.deepEqual([over.status, over.body.code], [413, "BODY_TOO_LARGE"]);
    });

    it("names of 10,000 characters, and a password of 1 MB + 1", async () => {
      for (const name of ["x".repeat(10_000), "가".repeat(10_000), "🎉".repeat(10_000)]) {
        const signup = await call(server, "POST", "/api/auth/signup", { payload: { username: name, password: "p" } });
        assert.deepEqual([signup.status, signup.body.code], [400, "INVALID_REQUEST"]);
        const login = await call(server, "POST", "/api/auth/login", { payload: { username: name, password: "p" } });
        assert.ok([400, 401].includes(login.status));
        const room = await call(server, "POST", "/api/chatrooms", { token: users[0].token, payload: { name } });
        assert.deepEqual([room.status, room.body.code], [400, "INVALID_REQUEST"]);
        const invite = await call(server, "POST", `/api/chatrooms/${roomId}/invite`, { token: users[0].token, payload: { participants: [name] } });
        assert.equal(invite.status, 400);
      }
      const long = { username: "long", password: "x".repeat(1_048_577) };
      const { status, body } = await call(server, "POST", "/api/auth/signup", { payload: long });
      assert.deepEqual([status, body.code], [400, "INVALID_REQUEST"]);
    });
  });
});
