// `examples/protocol_server`, the engine without the chat, and raw clients of it.

import { spawn } from "node:child_process";
import net from "node:net";
import path from "node:path";
import WebSocket from "ws";
import { binary } from "./server.mjs";
import { next, until } from "./wait.mjs";

const program = process.env.PROTOCOL_SERVER_BIN ?? path.join(path.dirname(binary), "examples/protocol_server");

export class ProtocolServer {
  static async start(flags = {}) {
    const settings = { "ping-interval-ms": 300, "ping-timeout-ms": 30_000, "connect-timeout-ms": 30_000, ...flags };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const child = spawn(program, ["--listen", "127.0.0.1:0", ...args], { stdio: ["ignore", "pipe", "inherit"] });
    const server = Object.assign(new ProtocolServer(), { child });
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (said += text));
    const ready = await until("the protocol server is ready", () => /listening on 127\.0\.0\.1:(\d+)/.exec(said));
    server.port = Number(ready[1]);
    server.url = `http://127.0.0.1:${server.port}`;
    return server;
  }

  stop() {
    this.child.kill("SIGKILL");
  }

  // A request of an Engine.IO session, or the first of one.
  poll(sid, { path: where = "/engine.io/", query = "", ...options } = {}) {
    const session = sid === undefined ? "" : `&sid=${sid}`;
    return fetch(`${this.url}${where}?EIO=4&transport=polling${session}${query}`, options);
  }

  post(sid, body, options = {}) {
    return this.poll(sid, { method: "POST", body, ...options });
  }

  async open(options = {}) {
    const text = await (await this.poll(undefined, options)).text();
    return JSON.parse(text.slice(1)).sid;
  }

  // What requests fetch until `wanted` packets are there that are no pings.
  async fetched(sid, wanted, options = {}) {
    const packets = [];
    while (packets.length < wanted) {
      const response = await this.poll(sid, options);
      if (response.status !== 200) throw new Error(`answered ${response.status} after ${JSON.stringify(packets)}`);
      packets.push(...(await response.text()).split("\x1e").filter((packet) => packet !== "2"));
    }
    return packets;
  }

  // A WebSocket whose messages are in `got`, its close in `closed`.
  socket(where, options = {}) {
    const ws = new WebSocket(`ws://127.0.0.1:${this.port}${where}`, { perMessageDeflate: false, ...options });
    Object.assign(ws, { got: [], closed: null });
    ws.on("error", () => {}); // the close that follows is what matters
    ws.on("close", (code, reason) => (ws.closed = { code, reason: reason.toString() }));
    ws.on("message", (data, isBinary) => {
      if (isBinary || data.toString() !== "2") ws.got.push(isBinary ? data : data.toString());
      else ws.send("3");
    });
    return ws;
  }

  // An open Engine.IO session over a WebSocket; its handshake is taken out of `got`.
  async session(where = "/engine.io/", query = "") {
    const ws = this.socket(`${where}?EIO=4&transport=websocket${query}`);
    await until("the handshake", () => ws.got.length > 0);
    ws.handshake = JSON.parse(ws.got.shift().slice(1));
    return ws;
  }

  // A WebSocket that has had its `3probe`.
  async probe(sid, where = "/engine.io/") {
    const ws = this.socket(`${where}?EIO=4&transport=websocket&sid=${sid}`);
    await next(ws, "open");
    ws.send("2probe");
    await got(ws, "3probe");
    return ws;
  }

  // A Socket.IO client in `/` (whose answers are taken out of `got`).
  async client() {
    const ws = await this.session("/socket.io/");
    ws.send("40");
    await got(ws, /^40\{/, '42["auth",{}]');
    return ws;
  }

  // A TCP connection on which a WebSocket handshake has been made; what comes then is in `bytes`.
  async raw(where = "/echo") {
    const socket = net.connect(this.port, "127.0.0.1").setNoDelay(true);
    Object.assign(socket, { bytes: Buffer.alloc(0), ended: false });
    socket.on("error", () => {});
    socket.on("end", () => (socket.ended = true));
    socket.on("data", (data) => (socket.bytes = Buffer.concat([socket.bytes, data])));
    socket.write(`GET ${where} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    await until("the handshake", () => socket.bytes.includes("\r\n\r\n"));
    socket.bytes = socket.bytes.subarray(socket.bytes.indexOf("\r\n\r\n") + 4);
    return socket;
  }
}

// Waits until exactly these have come, in this order, and takes them away. Expressions are matched.
export async function got(ws, ...wanted) {
  await until(`${wanted.join(", ")}; got ${ws.got}`, () => ws.got.length >= wanted.length || ws.closed);
  const found = ws.got.splice(0, wanted.length);
  for (const [at, want] of wanted.entries()) {
    const have = found[at];
    const same = want instanceof RegExp ? want.test(have)
      : Buffer.isBuffer(want) ? Buffer.isBuffer(have) && want.equals(have) : want === have;
    if (!same) throw new Error(`wanted ${want}, got ${have} (closed: ${JSON.stringify(ws.closed)})`);
  }
  return found;
}

// Waits until the server has closed a WebSocket; answers the close code.
export async function closed(ws) {
  await until("the close", () => ws.closed);
  return ws.closed.code;
}

// A client's frame. `head` is its first byte: FIN and opcode.
export function frame(head, payload = Buffer.alloc(0)) {
  const body = Buffer.from(payload);
  const mask = Buffer.from([0x12, 0x9a, 0x56, 0xff]);
  let length;
  if (body.length < 126) length = Buffer.from([0x80 | body.length]);
  else if (body.length < 65_536) length = Buffer.from([0x80 | 126, body.length >> 8, body.length & 255]);
  else {
    length = Buffer.alloc(9);
    length[0] = 0x80 | 127;
    length.writeBigUInt64BE(BigInt(body.length), 1);
  }
  const masked = Buffer.from(body);
  for (let at = 0; at < masked.length; at++) masked[at] ^= mask[at % 4];
  return Buffer.concat([Buffer.from([head]), length, mask, masked]);
}

// The server's frames in `bytes`: `{ head, payload }` each. Throws when the last is not whole.
export function frames(bytes) {
  const found = [];
  for (let at = 0; at < bytes.length; ) {
    let [length, start] = [bytes[at + 1], at + 2];
    if (length === 126) [length, start] = [bytes.readUInt16BE(start), start + 2];
    else if (length === 127) [length, start] = [Number(bytes.readBigUInt64BE(start)), start + 8];
    if (bytes.length < start + length) throw new Error("a frame that is not whole");
    found.push({ head: bytes[at], payload: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}
