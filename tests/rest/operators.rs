//! What operators and load balancers ask.

use crate::common::{Options, Server};

#[test]
fn operators_see_the_whole_host_from_any_worker() {
    let mut server = Server::start(&Options::default());
    for _ in 0..10 {
        assert_eq!(server.get("/health", None).status, 200);
        assert_eq!(server.get("/ready", None).status, 200);
        let stats = server.get("/api/stats", None);
        assert_eq!(stats.status, 200);
        let processes = stats.body["processes"].as_array().expect("processes");
        let count = |role: &str| processes.iter().filter(|process| process["role"] == role).count();
        assert_eq!((count("supervisor"), count("storage"), count("worker")), (1, 1, 2), "{stats:?}");
        for process in processes {
            for field in ["pid", "uptime_s", "restarts", "rss_bytes", "connections"] {
                assert!(process[field].is_number(), "{field} of {process}");
            }
        }
    }
    let document = server.get("/api/openapi.json", None);
    assert!(document.body["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    for path in ["/api/auth/signup", "/api/chatrooms", "/api/chatrooms/{roomId}/messages"] {
        assert!(document.body["paths"][path].is_object(), "{path}");
    }
    server.stop();
}

/// A load balancer that asks often, and every monitoring script at the same moment.
#[test]
fn many_callers_at_once_are_all_told_the_same() {
    let mut server = Server::start(&Options::default());
    for path in ["/ready", "/api/stats"] {
        let together = std::sync::Barrier::new(200);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let call = || {
                together.wait();
                (0..3).map(|_| server.get(path, None).status).max().expect("three calls")
            };
            let calls: Vec<_> = (0..200).map(|_| scope.spawn(call)).collect();
            calls.into_iter().map(|call| call.join().expect("answered")).collect()
        });
        assert_eq!(statuses, [200; 200], "{path}");
    }
    server.stop();
}
