// A real `minitalk serve` in a fresh directory, for one test file. Nothing here knows the server's inside:
// it is started by its command line, watched through `minitalk status --json` and stopped by signals.

import { spawn, execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { call } from "./rest.mjs";
import { until } from "./wait.mjs";

const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");
const target = process.env.CARGO_TARGET_DIR ?? path.join(repository, "target");
export const binary = process.env.MINITALK_BIN ?? path.join(target, "release/minitalk");

export const SECRET = "a secret that only this test knows, 32+ bytes";

// The cheapest Argon2id there is: these tests are not about its strength.
const CHEAP_PASSWORDS = "[auth.argon2]\nmemory_kib = 8\niterations = 1\nparallelism = 1\n";

const running = new Set();
process.on("exit", () => running.forEach((server) => server.destroy()));

export class Server {
  constructor({ program, workers, dir, dataDir, configFile, extraArgs, env }) {
    Object.assign(this, { program, workers, dir, dataDir, configFile, extraArgs, env, stderr: "", child: null, port: null });
  }

  // `top` goes before the first table of the configuration file, `tables` after; `auth` into `[auth]`;
  // `env` into its environment. `program` is a copy that may be replaced.
  static async start({ program = binary, workers = 2, top = "", auth = "", tables = "", port = 0, extraArgs = [], env = {} } = {}) {
    const dir = mkdtempSync(path.join(os.tmpdir(), "minitalk-e2e-"));
    const configFile = path.join(dir, "minitalk.toml");
    const secret = `[auth]\njwt_secret = "${SECRET}"\n`;
    writeFileSync(configFile, `${top}\n${secret}${auth}\n${CHEAP_PASSWORDS}${tables}\n`);
    const server = new Server({ program, workers, dir, dataDir: path.join(dir, "data"), configFile, extraArgs, env });
    await server.serve(port);
    return server;
  }

  // Starts (again) on the same directory; resolves when the server says that it is ready.
  async serve(port = this.port) {
    if (!existsSync(binary)) throw new Error(`${binary} is not there: cargo build --release first`);
    const args = ["serve", "--config", this.configFile, "--data-dir", this.dataDir,
      "--listen", `127.0.0.1:${port}`, "--workers", String(this.workers), ...this.extraArgs];
    const child = spawn(this.program, args, { stdio: ["ignore", "ignore", "pipe"], env: { ...cleanEnvironment(), ...this.env } });
    this.child = child;
    running.add(this);
    let fresh = "";
    child.stderr.setEncoding("utf8").on("data", (text) => {
      fresh += text;
      this.stderr = (this.stderr + text).slice(-200_000);
    });
    this.exited = new Promise((resolve) => child.on("exit", (code, signal) => resolve({ code, signal })));
    const ready = await Promise.race([
      until("the server is ready", () => /minitalk: ready on ([^(]*)\(/.exec(fresh), 60_000),
      this.exited.then(({ code, signal }) => {
        throw new Error(`serve ended with ${code ?? signal} before it was ready:\n${fresh}`);
      }),
    ]).catch((error) => {
      this.destroy();
      throw error;
    });
    this.ports = ready[1].split(",").map((address) => Number(address.split(":").at(-1)));
    this.port = this.ports[0];
    this.url = `http://127.0.0.1:${this.port}`;
  }

  status() {
    const args = ["status", "--json", "--data-dir", this.dataDir];
    return JSON.parse(execFileSync(binary, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  }

  // Processes of one role, ordered by id.
  processes(role) {
    return this.status().processes.filter((p) => p.role === role).sort((a, b) => (a.id ?? 0) - (b.id ?? 0));
  }

  // What must not change while clients misbehave.
  fingerprint() {
    return this.status().processes.map(({ role, id, pid, restarts }) => ({ role, id, pid, restarts }));
  }

  // Waits until every process is up and answers.
  async ready() {
    await until("every process is up", async () => {
      const storage = this.processes("storage");
      const workers = this.processes("worker");
      if (storage.length !== 1 || workers.length !== this.workers) return false;
      if (![...storage, ...workers].every((p) => p.pid > 0 && alive(p.pid))) return false;
      return (await call(this, "GET", "/ready")).status === 200;
    }, 60_000);
  }

  // Which worker holds the connection that comes from our `localPort`: the kernel knows exactly, so
  // tests need not guess from counts. `workers` spares asking for them.
  workerOfPort(localPort, workers = undefined) {
    const inode = inodeOfConnection(this.port, localPort);
    const worker = inode && (workers ?? this.processes("worker")).find((p) => holdsSocket(p.pid, inode));
    return worker ? worker.id : null;
  }

  // TERM must end it with 0. Its directory goes too, unless it is to be kept for a look or another start.
  async stop({ keep = false } = {}) {
    if (!this.child) return this.destroy();
    this.child.kill("SIGTERM");
    const late = setTimeout(() => this.child.kill("SIGKILL"), 60_000);
    const { code, signal } = await this.exited;
    clearTimeout(late);
    this.child = null;
    if (!keep) this.destroy();
    if (code !== 0) throw new Error(`TERM ended the server with ${code ?? signal}:\n${this.stderr}`);
  }

  // kill -9 of the supervisor; resolves when its children are gone too.
  async killSupervisor() {
    const pids = this.status().processes.map((p) => p.pid);
    this.child.kill("SIGKILL");
    await this.exited;
    await until("the children died with the supervisor", () => !pids.some(alive), 30_000);
    this.child = null;
  }

  verify() {
    return execFileSync(binary, ["verify", "--data-dir", this.dataDir], { encoding: "utf8" });
  }

  // All messages in the log, in the order of the files; a line that is being written is left out.
  log() {
    const files = readdirSync(this.dataDir).filter((name) => /^messages_\d+\.jsonl$/.test(name)).sort();
    return files.flatMap((name) =>
      readFileSync(path.join(this.dataDir, name), "utf8").split("\n").slice(0, -1).map((line) => JSON.parse(line)));
  }

  // Ends what is left of it and removes its directory; the last words of a failing test file.
  destroy() {
    running.delete(this);
    if (this.child && this.child.exitCode === null) this.child.kill("SIGKILL");
    this.child = null;
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

// A port that no outgoing connection can take while the server is down: clients that keep
// reconnecting to a port of the ephemeral range can end up connected to themselves.
export async function fixedPort(random = Math.random) {
  const low = Number(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").trim().split(/\s+/)[0]);
  for (;;) {
    const port = 10_000 + Math.floor(random() * Math.max(1, Math.min(low, 32_000) - 10_000));
    const free = await new Promise((resolve) => {
      const probe = net.createServer().once("error", () => resolve(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

// Not a zombie: a killed process that nobody has waited for yet is gone for our purpose.
export function alive(pid) {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

function cleanEnvironment() {
  const names = ["MINITALK_CONFIG", "MINITALK_LISTEN", "MINITALK_DATA_DIR", "MINITALK_WORKERS", "JWT_SECRET"];
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !names.includes(name)));
}

function inodeOfConnection(serverPort, clientPort) {
  const hex = (port) => port.toString(16).toUpperCase().padStart(4, "0");
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n").slice(1)) {
    const [, local, remote, state, , , , , , inode] = line.trim().split(/\s+/);
    const established = state === "01";
    if (established && local.endsWith(`:${hex(serverPort)}`) && remote.endsWith(`:${hex(clientPort)}`)) return inode;
  }
  return null;
}

function holdsSocket(pid, inode) {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`;
      } catch {
        return false;
      }
    });
  } catch {
    return false;
  }
}
