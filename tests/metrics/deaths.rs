//! Processes that are replaced, files that are full, and the line in the log.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::socket::Socket;
use crate::common::{Options, Server, until};
use crate::page::Page;

#[test]
fn a_process_that_is_replaced_begins_anew_and_its_restarts_go_on() {
    let mut server = Server::start(&Options::default());
    let worker = [("role", "worker"), ("worker", "1")];
    let of = |page: &Page, name: &str| page.sum(name, &worker);
    let before = Page::of(&server);
    assert_eq!(of(&before, "minitalk_process_restarts_total"), 0.0);
    kill(Pid::from_raw(server.pids("worker")[1]), Signal::SIGKILL).unwrap();
    let after = Page::when(&server, "worker 1 is back", |page| {
        of(page, "minitalk_process_restarts_total") == 1.0
            && of(page, "minitalk_process_up") == 1.0
            && page.sum("minitalk_scrape_errors", &[]) == 0.0
            && page.sum("minitalk_ready", &[]) == 1.0
    });
    let started = "minitalk_process_start_time_seconds";
    assert!(of(&after, started) > of(&before, started));
    let others = |page: &Page| page.values(started, &[("worker", "0")])[0];
    assert_eq!(others(&after), others(&before));
    assert_eq!(of(&after, "minitalk_process_hangs_total"), 0.0);
    server.stop();
}

/// More files than are named one by one.
#[test]
fn logs_are_counted_over_all_their_files_also_after_a_restart() {
    const MESSAGES: u32 = 205;
    let tables = "[storage]\nmessages_per_file = 10\n";
    let server = Server::start(&Options { tables, ..Options::default() });
    let users = server.new_users("user", 2);
    let room = server.new_room(&users, "talk");
    Socket::connect(&server, &users[0]).say_many(&room, 0, MESSAGES);
    let records = |page: &Page, log| page.sum("minitalk_storage_log_records", &[("log", log)]);
    let check = |server: &Server| {
        let page = Page::when(server, "all is stored and indexed", |page| {
            records(page, "messages") == f64::from(MESSAGES)
                && page.sum("minitalk_storage_index_lag_files", &[]) == 0.0
        });
        assert_eq!((records(&page, "users"), records(&page, "chatrooms")), (2.0, 1.0));
        let lines = server.message_files();
        assert!(lines.len() > 16, "{}", lines.len());
        let bytes: usize = lines.iter().flat_map(|(_, lines)| lines).map(|line| line.len() + 1).sum();
        assert_eq!(page.sum("minitalk_storage_log_bytes", &[("log", "messages")]), bytes as f64);
    };
    check(&server);
    let mut server = server.start_again();
    check(&server);
    server.stop();
}

#[test]
fn whoever_follows_the_log_sees_a_line_in_each_second() {
    let env = vec![("RUST_LOG", "minitalk=debug".to_owned())];
    let mut server = Server::start(&Options { env, ..Options::default() });
    let users = server.new_users("user", 1);
    let room = server.new_room(&users, "talk");
    Socket::connect(&server, &users[0]).say_many(&room, 0, 7);
    for who in ["storage", "worker"] {
        until("the line is there", || {
            let is_it = |line: &str| {
                line.contains(&format!("DEBUG {who}")) && line.contains("stats processed=7 queued=0 rate=")
            };
            server.stderr().lines().any(is_it).then_some(())
        });
    }
    server.stop();
}
