// A real nginx in front of a server's addresses: round-robin, kept-alive upstream connections. A worker's
// death breaks connections of its own and no address, so none is taken out of the round (`max_fails`).

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { until } from "./wait.mjs";

const program = process.env.NGINX_BIN ?? "nginx";

export class Nginx {
  // `log`: the status of each answer is kept, for `answers`.
  static async start(ports, { connections = 1024, keepalive = 32, log = false } = {}) {
    const dir = mkdtempSync(path.join(os.tmpdir(), "minitalk-nginx-"));
    const port = await freePort();
    const upstreams = ports.map((upstream) => `server 127.0.0.1:${upstream} max_fails=0;`).join(" ");
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${dir}/${kind};`);
    writeFileSync(path.join(dir, "nginx.conf"), `
      daemon off; worker_processes 1; pid ${dir}/pid; error_log ${dir}/error.log;
      events { worker_connections ${connections}; }
      http {
        log_format statuses $status;
        access_log ${log ? `${dir}/access.log statuses` : "off"};
        ${temporary.join(" ")}
        map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
        upstream minitalk { ${upstreams} keepalive ${keepalive}; }
        server {
          listen 127.0.0.1:${port};
          location / {
            proxy_pass http://minitalk;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_buffering off;
          }
        }
      }`);
    const nginx = Object.assign(new Nginx(), { dir, port, url: `http://127.0.0.1:${port}` });
    await nginx.serve(async () => (await fetch(`${nginx.url}/health`)).status === 200);
    return nginx;
  }

  // The shipped nginx/minitalk.conf on free ports, with a certificate of its own. `change` turns its text
  // into what an operator might have made of it; `connections` are for each of its two processes.
  static async shipped(port, change = (text) => text, { connections = 4096 } = {}) {
    const dir = mkdtempSync(path.join(os.tmpdir(), "minitalk-nginx-"));
    const [plain, tls] = [await freePort(), await freePort()];
    const certificate = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
      "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", `${dir}/key.pem`, "-out", `${dir}/cert.pem`];
    execFileSync("openssl", certificate, { stdio: "ignore" });
    const places = [
      [/listen \[::\].*\n/g, "\n"],
      ["listen 80;", `listen 127.0.0.1:${plain};`],
      ["listen 443 ssl", `listen 127.0.0.1:${tls} ssl`],
      [/chat\.example\.org;/g, "localhost;"],
      [/\/etc\/ssl\/certs\/\S+;/, `${dir}/cert.pem;`],
      [/\/etc\/ssl\/private\/\S+;/, `${dir}/key.pem;`],
      [/\/var\/log\/nginx\/minitalk\.log/g, `${dir}/access.log`],
      [/\/var\/log\/nginx\/minitalk\.error\.log/g, `${dir}/minitalk.error.log`],
      ["server 127.0.0.1:4000 ", `server 127.0.0.1:${port} `],
    ];
    let text = readFileSync(new URL("../../../nginx/minitalk.conf", import.meta.url), "utf8");
    for (const [from, to] of places) {
      if (text.replace(from, to) === text) throw new Error(`nginx/minitalk.conf has no ${from} any more`);
      text = text.replace(from, to);
    }
    writeFileSync(path.join(dir, "minitalk.conf"), change(text));
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${dir}/${kind};`);
    writeFileSync(path.join(dir, "nginx.conf"), `
      ${process.getuid() === 0 ? "user root;" : "" /* or its processes may not use the directory */}
      daemon off; worker_processes 2; pid ${dir}/pid; error_log ${dir}/error.log;
      worker_rlimit_nofile ${2 * connections}; events { worker_connections ${connections}; }
      http { ${temporary.join(" ")} include ${dir}/minitalk.conf; }`);
    const nginx = Object.assign(new Nginx(), { dir, plain, port: tls, url: `https://127.0.0.1:${tls}` });
    nginx.certificate = readFileSync(`${dir}/cert.pem`);
    await nginx.serve(() => answers(tls));
    return nginx;
  }

  async serve(condition) {
    this.child = spawn(program, this.arguments(), { stdio: ["ignore", "ignore", "inherit"] });
    await until("nginx answers", condition);
  }

  arguments() {
    return ["-p", this.dir, "-e", `${this.dir}/error.log`, "-c", `${this.dir}/nginx.conf`];
  }

  // What `nginx -t` says of the configuration; throws if that is not good.
  check() {
    const { status, stderr } = spawnSync(program, [...this.arguments(), "-t"], { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    return stderr;
  }

  // As `systemctl reload nginx` does; resolves when new processes serve.
  async reload() {
    const before = this.processes();
    this.child.kill("SIGHUP");
    await until("new processes of nginx", () => this.processes().some((pid) => !before.includes(pid)));
  }

  processes() {
    const pid = this.child.pid;
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
  }

  // Everything in its logs.
  logs() {
    const files = readdirSync(this.dir).filter((name) => name.endsWith(".log"));
    return files.map((name) => readFileSync(path.join(this.dir, name), "utf8")).join("");
  }

  // The status of each line of the shipped access log.
  statuses() {
    const lines = readFileSync(`${this.dir}/access.log`, "utf8").split("\n").slice(0, -1);
    return lines.map((line) => line.split(" ")[5]);
  }

  // How many requests it has answered, and how many of those with another status than 200.
  answers() {
    const statuses = readFileSync(`${this.dir}/access.log`, "utf8").trim().split("\n");
    return { all: statuses.length, others: statuses.filter((status) => status !== "200").length };
  }

  stop() {
    this.child.kill("SIGTERM");
    this.child.on("exit", () => rmSync(this.dir, { recursive: true, force: true }));
  }
}

// A server behind nginx that breaks in the way that the path names.
export class BrokenUpstream {
  static async start() {
    const broken = Object.assign(new BrokenUpstream(), { silent: [], sockets: new Set() });
    broken.server = net.createServer((socket) => {
      broken.sockets.add(socket);
      socket.on("error", () => {}).on("close", () => broken.sockets.delete(socket));
      socket.setEncoding("latin1").on("data", (text) => broken.answer(socket, text.split(" ")[1]));
    });
    await new Promise((resolve) => broken.server.listen(0, "127.0.0.1", resolve));
    broken.port = broken.server.address().port;
    return broken;
  }

  answer(socket, path) {
    if (path === "/hangs-up") socket.end();
    else if (path === "/breaks-off") socket.resetAndDestroy();
    else if (path === "/babbles") socket.end("HTTP/1.1 200 OK\r\n\0\r\n\r\n");
    else this.silent.push(path);
  }

  async stop() {
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.sockets.forEach((socket) => socket.destroy());
    await closed;
  }
}

async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

function answers(port) {
  return new Promise((resolve) => {
    const probe = net.connect(port, "127.0.0.1").once("error", () => resolve(false)).once("connect", () => {
      probe.destroy();
      resolve(true);
    });
  });
}
