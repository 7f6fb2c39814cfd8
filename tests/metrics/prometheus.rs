//! `promtool` finds no fault with the page, and a real Prometheus scrapes it.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::rest::{Answer, exchange};
use crate::common::socket::Socket;
use crate::common::{DEADLINE, Options, Server, until};
use crate::page::Page;

#[test]
fn promtool_finds_no_fault() {
    let mut server = Server::start(&Options::default());
    let page = Page::of(&server);
    let (ok, said) = check(&page.text);
    assert!(ok && said.is_empty(), "{said}");
    // It would say so.
    let (ok, said) = check("# TYPE minitalk_things counter\nminitalk_things 1\n");
    assert!(!ok && said.contains("_total"), "{said}");
    server.stop();
}

/// Whether `promtool check metrics` takes a page, and all that it says.
fn check(page: &str) -> (bool, String) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, which Debian has in its package prometheus");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn a_real_prometheus_scrapes_the_host() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 2);
    let room = server.new_room(&users, "talk");
    let mut sockets: Vec<Socket> = users.iter().map(|user| Socket::connect(&server, user)).collect();
    sockets[0].say_many(&room, 0, 12);
    let prometheus = Prometheus::start(server.port);
    let value = |query: &str, wanted: f64| {
        until(query, || (prometheus.ask(query)? == wanted).then_some(()));
    };
    value("up", 1.0);
    value("minitalk_ready", 1.0);
    value("sum(minitalk_messages_received_total)", 12.0);
    value("sum(minitalk_messages_delivered_total)", 24.0);
    value("minitalk_storage_log_records{log=\"messages\"}", 12.0);
    value("count(minitalk_process_open_fds > 0)", 4.0);
    // What dashboards make of buckets.
    let quantile = "histogram_quantile(0.99, sum by (le) (minitalk_delivery_seconds_bucket)) > bool 0";
    value(quantile, 1.0);
    server.stop();
    value("up", 0.0);
}

/// A Prometheus that watches one server; killed when dropped.
struct Prometheus {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Prometheus {
    fn start(target: u16) -> Prometheus {
        let dir = tempfile::Builder::new().prefix("prometheus-").tempdir().unwrap();
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
             scrape_configs:\n- job_name: minitalk\n  static_configs:\n  - targets: ['127.0.0.1:{target}']\n"
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        // Somebody else may take the port in between; then another is tried.
        let (child, port) = until("Prometheus listens", || {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = Command::new("prometheus")
                .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("prometheus, a package of Debian");
            let is_up = until("Prometheus listens, or has ended", || match child.try_wait().unwrap() {
                Some(_) => Some(false),
                None => get(port, "/-/ready").filter(|answer| answer.status == 200).map(|_| true),
            });
            is_up.then_some((child, port))
        });
        Prometheus { child, port, _dir: dir }
    }

    /// The one value that a query has.
    fn ask(&self, query: &str) -> Option<f64> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = get(self.port, &format!("/api/v1/query?query={escaped}"))?;
        let Value::Array(result) = &answer.body["data"]["result"] else { return None };
        let [only] = &result[..] else { return None };
        only["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(port: u16, path: &str) -> Option<Answer> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
    Some(exchange(stream, request.as_bytes()))
}
