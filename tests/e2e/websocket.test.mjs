// RFC 6455 over a plain WebSocket, section by section: a raw TCP client against the echo path.

import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, it } from "node:test";
import { ProtocolServer, closed, frame, frames, got } from "./lib/protocol.mjs";
import { until } from "./lib/wait.mjs";

const FIN = 0x80, CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10;

describe("RFC 6455", () => {
  let server;
  before(async () => (server = await ProtocolServer.start()));
  after(() => server.stop());

  // Sends frames, or bytes as they are, and answers the server's first `wanted` frames.
  async function answers(sent, wanted) {
    const socket = await server.raw();
    for (const bytes of sent) socket.write(bytes);
    const found = await until("the answers", () => {
      const whole = frames(socket.bytes);
      return whole.length >= wanted && whole;
    });
    socket.destroy();
    return found.map(({ head, payload }) => [head, payload.toString("latin1")]);
  }

  // The close code with which the server ends it.
  async function failure(sent, what) {
    const socket = await server.raw();
    for (const bytes of sent) socket.write(bytes);
    const close = await until(`closed for ${what}`, () => frames(socket.bytes).find(({ head }) => head === (FIN | CLOSE)));
    await until("the end", () => socket.ended);
    socket.destroy();
    return close.payload.readUInt16BE(0);
  }

  it("echoes messages of every length form (5.2)", async () => {
    const ws = server.socket("/echo");
    await until("open", () => ws.readyState === 1);
    for (const length of [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 1_000_000]) {
      const text = "x".repeat(length), bytes = Buffer.alloc(length, 0xfe);
      ws.send(text);
      ws.send(bytes);
      await got(ws, text, bytes);
    }
    ws.close();
  });

  it("echoes messages of 16 MiB and refuses larger ones (7.4.1)", async () => {
    const ws = server.socket("/echo");
    await until("open", () => ws.readyState === 1);
    const text = "*".repeat(16 << 20), bytes = Buffer.alloc(16 << 20, 0xfe);
    ws.send(text);
    ws.send(bytes);
    await got(ws, text, bytes);
    ws.send(Buffer.alloc((16 << 20) + 1));
    assert.equal(await closed(ws), 1009);
    const half = Buffer.alloc(9 << 20);
    assert.equal(await failure([frame(BINARY, half), frame(FIN | CONTINUATION, half)], "a sum too large"), 1009);
  });

  it("puts 65,536 fragments together (5.4)", async () => {
    const socket = await server.raw();
    const piece = frame(CONTINUATION, "x");
    socket.write(frame(TEXT, "x"));
    for (let count = 0; count < 1_023; count++) socket.write(piece);
    const many = Buffer.concat(Array(1_024).fill(piece));
    for (let count = 1; count < 64; count++) socket.write(many);
    socket.write(frame(FIN | CONTINUATION, ""));
    const echo = await until("the echo", () => frames(socket.bytes)[0]);
    assert.deepEqual([echo.head, echo.payload.length], [FIN | TEXT, 65_536]);
    socket.destroy();
  });

  it("takes bytes however they are cut (5.2)", async () => {
    const whole = Buffer.concat([frame(TEXT, "안녕"), frame(FIN | PING, "p"), frame(CONTINUATION, "🎉"),
      frame(FIN | CONTINUATION, "x".repeat(300)), frame(FIN | BINARY, Buffer.alloc(70_000, 7))]);
    const socket = await server.raw();
    for (let at = 0; at < 600; at++) {
      socket.write(whole.subarray(at, at + 1));
      if (at % 40 === 0) await new Promise(setImmediate);
    }
    socket.write(whole.subarray(600));
    const found = await until("the answers", () => {
      const whole = frames(socket.bytes);
      return whole.length === 3 && whole;
    });
    assert.deepEqual(found[0], { head: FIN | PONG, payload: Buffer.from("p") });
    assert.deepEqual(found[1], { head: FIN | TEXT, payload: Buffer.from(`안녕🎉${"x".repeat(300)}`) });
    assert.deepEqual(found[2], { head: FIN | BINARY, payload: Buffer.alloc(70_000, 7) });
    socket.destroy();
  });

  it("answers pings between fragments at once, and no pongs (5.5.2, 5.5.3)", async () => {
    for (const payload of ["", "x".repeat(125), "\x00\xff\xfe"]) {
      const bytes = Buffer.from(payload, "latin1");
      assert.deepEqual(
        await answers([frame(FIN | PONG, "unasked"), frame(TEXT, "a"), frame(FIN | PING, bytes), frame(FIN | CONTINUATION, "b")], 2),
        [[FIN | PONG, payload], [FIN | TEXT, "ab"]]);
    }
    const pings = Array.from({ length: 10 }, (_, at) => frame(FIN | PING, `${at}`));
    assert.deepEqual(await answers(pings, 10), pings.map((_, at) => [FIN | PONG, `${at}`]));
  });

  it("fails for reserved bits and opcodes, unmasked frames and bad control frames (5.1, 5.2, 5.5)", async () => {
    for (const bits of [0x40, 0x20, 0x10, 0x70]) {
      assert.equal(await failure([frame(FIN | bits | TEXT, "x")], `bits ${bits}`), 1002);
      assert.equal(await failure([frame(FIN | bits | PING, "")], `ping with bits ${bits}`), 1002);
    }
    for (const opcode of [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
      assert.equal(await failure([frame(FIN | opcode, "")], `opcode ${opcode}`), 1002);
    assert.equal(await failure([Buffer.from([FIN | TEXT, 1, 0x78])], "no mask"), 1002);
    for (const opcode of [PING, PONG, CLOSE]) {
      assert.equal(await failure([frame(opcode, "")], `fragmented ${opcode}`), 1002);
      assert.equal(await failure([frame(FIN | opcode, Buffer.alloc(126))], `long ${opcode}`), 1002);
    }
  });

  it("fails for fragments out of place (5.4)", async () => {
    for (const sent of [
      [frame(FIN | CONTINUATION, "x")], [frame(CONTINUATION, "x")],
      [frame(TEXT, "a"), frame(FIN | TEXT, "b")], [frame(TEXT, "a"), frame(BINARY, "b")],
      [frame(TEXT, "a"), frame(FIN | CONTINUATION, "b"), frame(CONTINUATION, "c")],
    ]) assert.equal(await failure(sent, "fragments"), 1002);
  });

  it("echoes text on every boundary of UTF-8 (8.1)", async () => {
    for (const hex of ["00", "7f", "c280", "dfbf", "e0a080", "ed9fbf", "ee8080", "efbfbd", "efbfbf", "f0908080", "f48fbfbf", "ceba e1bdb9 cf83"]) {
      const text = Buffer.from(hex.replaceAll(" ", ""), "hex");
      const cut = Array.from(text, (byte, at) => frame(at ? CONTINUATION : TEXT, Buffer.from([byte])));
      const latin = text.toString("latin1");
      assert.deepEqual(await answers([frame(FIN | TEXT, text)], 1), [[FIN | TEXT, latin]], hex);
      assert.deepEqual(await answers([...cut, frame(FIN | CONTINUATION, "")], 1), [[FIN | TEXT, latin]], `${hex}, cut`);
    }
  });

  it("fails for text that is not UTF-8 at the byte that shows it (8.1)", async () => {
    for (const hex of ["80", "bf", "c0", "c080", "c1bf", "e080", "e08080", "eda080", "edbfbf", "f08080", "f0808080", "f490", "f4908080",
      "f5", "f8", "fc", "fe", "ff", "c220", "e0a020", "f0908020", "cebaf4908080656469746564"]) {
      const text = Buffer.from(hex, "hex");
      assert.equal(await failure([frame(FIN | TEXT, text)], hex), 1007);
      // No end of the message: only what is there already can tell.
      assert.equal(await failure([frame(TEXT, "κόσμε"), frame(CONTINUATION, text)], `${hex}, message not ended`), 1007);
      const begun = frame(FIN | TEXT, Buffer.concat([text, Buffer.alloc(100)])).subarray(0, -100);
      assert.equal(await failure([begun], `${hex}, frame not ended`), 1007);
    }
    for (const hex of ["c2", "e0a0", "f09080"])
      assert.equal(await failure([frame(FIN | TEXT, Buffer.from(hex, "hex"))], `${hex}, cut`), 1007);
    const half = [frame(TEXT, Buffer.from("c2", "hex")), frame(FIN | CONTINUATION, "")];
    assert.equal(await failure(half, "cut in the last fragment"), 1007);
  });

  it("answers a close with its code, and nothing behind it (5.5.1, 7.4)", async () => {
    const body = (code, reason = "") => Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]);
    assert.equal(await failure([frame(FIN | CLOSE)], "no code"), 1000);
    for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
      assert.equal(await failure([frame(FIN | CLOSE, body(code, "안녕"))], code), code);
    for (const code of [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535])
      assert.equal(await failure([frame(FIN | CLOSE, body(code))], code), 1002);
    assert.equal(await failure([frame(FIN | CLOSE, "x")], "one byte"), 1002);
    assert.equal(await failure([frame(FIN | CLOSE, body(1000, "x".repeat(123)))], "the longest reason"), 1000);
    const notText = Buffer.concat([body(1000), Buffer.from([0xce, 0xba, 0xff])]);
    assert.equal(await failure([frame(FIN | CLOSE, notText)], "a reason that is not UTF-8"), 1007);
    const behind = await answers([frame(FIN | TEXT, "a"), frame(FIN | CLOSE, body(1000)), frame(FIN | TEXT, "b"), frame(FIN | PING, "")], 2);
    assert.deepEqual(behind.map(([head]) => head), [FIN | TEXT, FIN | CLOSE]);
    assert.equal(await failure([frame(TEXT, "begun"), frame(FIN | CLOSE, body(1000))], "amid a message"), 1000);
  });

  it("wants a proper handshake (4.2)", async () => {
    for (const headers of [{}, { connection: "upgrade" }, { connection: "upgrade", upgrade: "websocket", "sec-websocket-version": "13" }]) {
      const response = await fetch(`${server.url}/echo`, { headers }).catch(() => null);
      // Some clients refuse to send such headers themselves.
      if (response) assert.equal(response.status, 400);
    }
    const ws = server.socket("/echo", { protocolVersion: 8 });
    const [, response] = await new Promise((resolve) => ws.once("unexpected-response", (...args) => resolve(args)));
    assert.deepEqual([response.statusCode, response.headers["sec-websocket-version"]], [426, "13"]);
    response.destroy();
    const old = net.connect(server.port, "127.0.0.1");
    let said = "";
    old.on("data", (data) => (said += data));
    old.write("GET /echo HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    await until("a refusal", () => /^HTTP\/1\.[01] 400 /.test(said));
    old.destroy();
  });

  it("chooses the first of the protocols that a client offers, who may break off otherwise (4.2.2)", async () => {
    for (const [offered, chosen] of [[undefined, undefined], ["chat", "chat"], ["b, a", "b"], [" , c", "c"]]) {
      const socket = net.connect(server.port, "127.0.0.1");
      let said = "";
      socket.on("data", (data) => (said += data));
      const line = offered === undefined ? "" : `Sec-WebSocket-Protocol: ${offered}\r\n`;
      socket.write(`GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${line}` +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
      await until("an answer", () => said.includes("\r\n\r\n"));
      assert.match(said, /^HTTP\/1\.1 101 /);
      assert.equal(/^sec-websocket-protocol: (.*)\r$/im.exec(said)?.[1], chosen);
      socket.destroy();
    }
  });

  it("keeps up with many messages at once", async () => {
    const ws = server.socket("/echo");
    await until("open", () => ws.readyState === 1);
    const sent = Array.from({ length: 20_000 }, (_, at) => `${at} ${"x".repeat(at % 300)}`);
    sent.forEach((text) => ws.send(text));
    await got(ws, ...sent);
    ws.close();
  });
});
