//! The secret that signs tokens, where the operator gave none: made once, kept in the data directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Fault;

const SECRET: &str = "secret";
const TEMPORARY: &str = "secret.new";
/// Random bytes of a secret; HS256 asks for as many as its hash has.
const SECRET_BYTES: usize = 32;

/// The secret of the locked data directory, in hexadecimal.
///
/// A new one is durable before it is used: a token must not outlive the secret that signed it because
/// of a power cut.
pub(super) fn read_or_make(data_dir: &Path) -> Result<String, Fault> {
    let path = data_dir.join(SECRET);
    let secret = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(data_dir),
        Ok(text) if text.trim().len() < 2 * SECRET_BYTES => {
            let text = "not a whole secret; delete it and all tokens end, a new one is made";
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
        other => other.map(|text| text.trim().to_owned()),
    };
    secret.map_err(|error| Fault::Secret { path, error })
}

fn make(data_dir: &Path) -> io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let temporary = data_dir.join(TEMPORARY);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    fs::rename(&temporary, data_dir.join(SECRET))?;
    File::open(data_dir)?.sync_all()?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_made_once_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(TEMPORARY), "left by a power cut").unwrap();
        let secret = read_or_make(dir.path()).unwrap();
        assert_eq!(secret.len(), 64);
        assert_eq!(read_or_make(dir.path()).unwrap(), secret);
        let mode = fs::metadata(dir.path().join(SECRET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let other = tempfile::tempdir().unwrap();
        assert_ne!(read_or_make(other.path()).unwrap(), secret);
    }

    #[test]
    fn a_cut_secret_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "\n", "abc"] {
            fs::write(dir.path().join(SECRET), text).unwrap();
            let error = read_or_make(dir.path()).unwrap_err().to_string();
            assert!(error.contains("secret"), "{error}");
            assert_eq!(fs::read_to_string(dir.path().join(SECRET)).unwrap(), text);
        }
    }
}
