//! An import that is killed at any moment has happened or has not.

use std::process::Stdio;

use minitalk::journal::undo::Mark;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::layout::Layout;
use crate::common::{Options, Server, until};
use crate::{Place, assert_same_layout};

#[test]
fn killed_at_any_moment_it_is_nothing_or_everything() {
    let place = Place::empty();
    let members: String = (1..=30).map(|number| format!("{number},member {number}\n")).collect();
    place.import_well(&place.write("members.csv", format!("number,name\n{members}")));
    let (before, index) = (place.logs(), place.index());
    let layout = Layout { users: 3_000, rooms: 200, messages: 30_000, files: 3 };
    layout.write(&place.path("source"));
    let mut kept = 0;
    // Each time it comes a little further, measured by what it has written.
    let steps = 14;
    for step in 0..=steps {
        let mut child = place
            .command("import")
            .arg(place.path("source"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let bytes = || -> u64 {
            let entries = std::fs::read_dir(place.data()).unwrap();
            entries.map(|entry| entry.unwrap().metadata().map_or(0, |file| file.len())).sum()
        };
        let wanted = 800_000 * step;
        until("the import has come far enough", || {
            (child.try_wait().unwrap().is_some() || place.data().join("IMPORT").exists() && bytes() >= wanted)
                .then_some(())
        });
        let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL);
        child.wait().unwrap();
        match step % 3 {
            0 => drop(place.command("verify").output().unwrap()),
            1 => drop(place.command("reindex").output().unwrap()),
            _ => drop(place.command("export").arg(place.path(&format!("out{step}"))).output().unwrap()),
        }
        assert!(!place.data().join("IMPORT").exists());
        if place.logs() != before {
            kept += 1;
            break;
        }
        place.assert_clean();
        assert_eq!(place.index(), index, "step {step}");
    }
    if kept == 0 {
        place.import_well(&place.path("source"));
    }
    println!("whole after a kill: {kept}");
    assert!(place.assert_clean().contains("30000 messages in 1 files, 3030 users, 200 room records"));
    let out = place.export("out");
    let other = Place::empty();
    other.import_well(&out);
    assert_same_layout(&out, &other.export("again"));
}

#[test]
fn a_server_takes_back_what_an_interrupted_import_wrote() {
    let place = Place::empty();
    place.import_well(&place.write("members.csv", "number,name\n1,a\n2,b\n"));
    let before = place.logs();
    let end = |name: &str| std::fs::metadata(place.data().join(name)).unwrap().len();
    let mark = Mark {
        users: end("users.jsonl"),
        rooms: end("chatrooms.jsonl"),
        file: 1,
        messages: end("messages_000001.jsonl"),
    };
    mark.set(&place.data()).unwrap();
    let mut more = std::fs::read(place.data().join("users.jsonl")).unwrap();
    more.extend_from_within(..);
    std::fs::write(place.data().join("users.jsonl"), more).unwrap();
    std::fs::write(place.data().join("messages_000002.jsonl"), "{}\n").unwrap();
    let server = Server::on(&Options::default(), &place.data());
    assert_eq!(place.logs(), before);
    assert!(server.stderr().contains("an import had been interrupted"), "{}", server.stderr());
    drop(server);
    place.assert_clean();
}
