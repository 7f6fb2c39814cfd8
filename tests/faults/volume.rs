//! A small file system of our own: an image in a loop device, or memory.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::until;

/// A mounted file system; unmounted when dropped.
pub struct Volume {
    dir: TempDir,
    kind: &'static str,
}

impl Volume {
    /// Of `ext4`, `xfs` or `tmpfs`, with that many MiB.
    pub fn new(kind: &'static str, mib: u64) -> Volume {
        let dir = tempfile::Builder::new().prefix("minitalk-volume-").tempdir().unwrap();
        fs::create_dir(dir.path().join("mount")).unwrap();
        let volume = Volume { dir, kind };
        let image = volume.image();
        match kind {
            "tmpfs" => {
                let size = format!("size={mib}m");
                run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(volume.root()));
                return volume;
            }
            "ext4" => {
                File::create(&image).unwrap().set_len(mib << 20).unwrap();
                run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
            }
            _ => {
                File::create(&image).unwrap().set_len(mib << 20).unwrap();
                run(Command::new("mkfs.xfs").args(["-q", "-f"]).arg(&image));
            }
        }
        volume.mount();
        volume
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    /// A directory for a server.
    pub fn data_dir(&self) -> PathBuf {
        self.root().join("data")
    }

    /// Mounts it again.
    pub fn mount(&self) {
        let options = if self.kind == "ext4" { "loop,errors=remount-ro" } else { "loop" };
        run(Command::new("mount").args(["-o", options]).arg(self.image()).arg(self.root()));
    }

    /// Unmounts it, once those who were killed have let go of it.
    pub fn unmount(&self) {
        until("the volume is free", || {
            let output = Command::new("umount").arg(self.root()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() || said.contains("busy"), "{said}");
            output.status.success().then_some(())
        });
    }

    /// Writes a file until there is no space left.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for size in [1 << 20, 4 << 10] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        let _ = file.sync_all();
    }

    /// Whether [`Volume::fill`] has more to do: those who fill the disk beside us free some, too.
    pub fn filler(&self) -> PathBuf {
        self.root().join("fill")
    }

    /// Takes the filling away.
    pub fn make_space(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// The machine loses power: what the device does not have is gone.
    pub fn lose_power(&self) {
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.root()));
    }

    /// The file system finds an error in itself and makes itself read-only.
    pub fn find_error(&self) {
        let output = Command::new("findmnt").args(["-no", "SOURCE"]).arg(self.root()).output().unwrap();
        let device = String::from_utf8(output.stdout).unwrap();
        let device = Path::new(device.trim()).file_name().unwrap().to_owned();
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        fs::write(trigger, "a test").unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: what a failed test has left open must not keep it.
        let _ = Command::new("umount").arg("-l").arg(self.root()).output();
    }
}

/// Runs a command that must succeed.
fn run(command: &mut Command) {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("this test needs {command:?}: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test needs root and loop devices; {command:?} failed: {said}");
}
