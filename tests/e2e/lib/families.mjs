// Stock clients of every family behind one face, so that one scenario fits all: those of JavaScript run
// here, the others in a program of their own that takes commands and tells what its clients hear.
//
// A client has `heard`, the arguments of each `message` event; `events`, `{name, args}` of every other;
// `sessions`, one entry for each time it was let in; `emit`, `ask`, `close`, and `settled`.

import { spawn } from "node:child_process";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { binary } from "./server.mjs";
import { until } from "./wait.mjs";

const here = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const python = [path.join(here, ".venv/bin/python"), path.join(here, "python_clients.py")];
const rust = process.env.RUST_CLIENT_BIN ?? path.join(path.dirname(binary), "../rust_client/debug/rust_client");

const EVENTS = ["error", "typing", "joined_room", "left_room"];
export const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };
const ARRIVES = { polling: "polling", websocket: "websocket", upgrade: "websocket" };

class Heard {
  constructor() {
    Object.assign(this, { heard: [], events: [], sessions: [] });
  }

  get lastSeq() {
    return this.heard.at(-1)?.[0].seq;
  }
}

// socket.io-client. Those from 4.6 on recover by themselves; older ones say `since`, and that they want
// no offsets.
class Script extends Heard {
  constructor(io, recovers, { url, transport, token, place }) {
    super();
    const since = () => (recovers ? {} : { recovery: false, ...(this.lastSeq === undefined ? {} : { since: this.lastSeq }) });
    this.transport = transport;
    this.socket = io(url, {
      transports: TRANSPORTS[transport], forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200,
      auth: (answer) => answer({ ...(place === "auth" ? { token } : {}), ...since() }),
      ...(place === "query" ? { query: { token } } : {}),
      ...(place === "header" ? { extraHeaders: { authorization: `Bearer ${token}` } } : {}),
    });
    this.socket.on("connect", () => this.sessions.push({ recovered: this.socket.recovered === true }));
    this.socket.on("connect_error", (error) => (this.failed = error));
    this.socket.on("message", (...args) => this.heard.push(args));
    for (const name of EVENTS) this.socket.on(name, (...args) => this.events.push({ name, args }));
  }

  emit(event, data) {
    this.socket.emit(event, data);
  }

  ask(event, data) {
    return new Promise((resolve) => this.socket.emit(event, data, resolve));
  }

  // Connected, and over the transport that it is meant to end on.
  async settled() {
    return this.socket.connected && this.socket.io.engine.transport.name === ARRIVES[this.transport];
  }

  close() {
    this.socket.disconnect();
  }
}

// A client of another program.
class Driven extends Heard {
  constructor(program, id, options) {
    super();
    Object.assign(this, { program, id, transport: options.transport, acks: new Map(), asked: 0 });
    const url = options.place === "query" ? `${options.url}/?token=${options.token}` : options.url;
    this.order({ do: "open", ...options, url });
  }

  order(command) {
    this.program.child.stdin.write(`${JSON.stringify({ id: this.id, ...command })}\n`);
  }

  take({ told, ...more }) {
    if (told === "connect") this.sessions.push({ recovered: false });
    else if (told === "event" && more.name === "message") {
      this.heard.push(more.args);
      if (!this.program.ordered) this.heard.sort(([one], [other]) => one.seq - other.seq);
    }
    else if (told === "event") this.events.push(more);
    else if (told === "ack") this.acks.get(more.ask)(this.program.ack(more.args));
    else if (told === "transport") this.current = more.name;
    else this.failed = new Error(more.why);
  }

  emit(event, data) {
    this.order({ do: "emit", event, data });
  }

  ask(event, data) {
    return new Promise((resolve) => {
      this.acks.set(++this.asked, resolve);
      this.order({ do: "ask", ask: this.asked, event, data });
    });
  }

  async settled() {
    if (!this.program.tellsTransport) return true;
    this.current = undefined;
    this.order({ do: "transport" });
    await until("the name of the transport", () => this.current);
    return this.current === ARRIVES[this.transport];
  }

  close() {
    this.order({ do: "close" });
  }
}

class Program {
  constructor(command, { tellsTransport = true, ordered = true, ack = ([value]) => value }) {
    const [program, ...args] = command;
    this.child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
    Object.assign(this, { clients: [], tellsTransport, ordered, ack });
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      const { id, ...told } = JSON.parse(line);
      this.clients[id].take(told);
    });
  }

  open(options) {
    const client = new Driven(this, this.clients.length, options);
    this.clients.push(client);
    return client;
  }

  stop() {
    this.child.kill();
  }
}

// Every family: its name, whether it recovers by itself, `open` and `stop`.
export async function families() {
  const script = async (name, recovers) => {
    const { io } = await import(name);
    return { recovers, open: (options) => new Script(io, recovers, options), stop() {} };
  };
  const driven = (command, ways = {}) => {
    const program = new Program(command, ways);
    return { recovers: false, open: (options) => program.open(options), stop: () => program.stop() };
  };
  return {
    "socket.io-client 3.1": await script("socket.io-client-3.1", false),
    "socket.io-client 4.0": await script("socket.io-client-4.0", false),
    "socket.io-client 4.6": await script("socket.io-client-4.6", true),
    "socket.io-client latest": await script("socket.io-client", true),
    "python-socketio sync": driven(python, { ordered: false }), // a thread for each event
    "python-socketio async": driven([...python, "async"]),
    // It gives the whole array of an ack as one value.
    "rust_socketio": driven([rust], { tellsTransport: false, ack: ([value]) => (Array.isArray(value) ? value[0] : value) }),
  };
}
