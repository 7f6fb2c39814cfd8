// A real nginx in front of a server's addresses: round-robin, kept-alive upstream connections. A worker's
// death breaks connections of its own and no address, so none is taken out of the round (`max_fails`).

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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
    const child = spawn(program, ["-p", dir, "-e", `${dir}/error.log`, "-c", `${dir}/nginx.conf`], { stdio: ["ignore", "ignore", "inherit"] });
    const nginx = Object.assign(new Nginx(), { dir, child, port, url: `http://127.0.0.1:${port}` });
    await until("nginx answers", async () => (await fetch(`${nginx.url}/health`)).status === 200);
    return nginx;
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

async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
