//! Argon2id in one piece of memory that is kept while there is work.
//!
//! A hash fills many megabytes. Taken anew for each, they stay with the process: glibc takes a piece of such a size
//! from the kernel only until the first one is freed (`M_MMAP_THRESHOLD` in mallopt(3), which is dynamic), and from
//! then on out of the heap. There the text of the hash behind it leaves a hole that is too small for the next one, and
//! a worker came to hold twelve of them (`docs/benchmarks.md`).

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// Bytes from which on glibc always asks the kernel for a piece, and gives it back when it is freed:
/// `DEFAULT_MMAP_THRESHOLD_MAX` of its malloc. What is not written to costs address space only.
const OWN_MAPPING_BYTES: usize = 32 << 20;

/// Makes and checks hashes, one at a time.
pub struct Hasher {
    params: Params,
    memory: Vec<Block>,
}

impl Hasher {
    /// Hashes will cost so much; memory is taken with the first.
    pub fn new(params: Params) -> Hasher {
        Hasher { params, memory: Vec::new() }
    }

    /// A new hash as a PHC string; `None` without memory for it, or for a password of 4 GiB.
    pub fn hash(&mut self, password: &str) -> Option<String> {
        let salt = Salt::generate();
        let params = self.params.clone();
        let encoded = ParamsString::try_from(&params).ok()?;
        let hash = self.output(Algorithm::Argon2id, Version::V0x13, params, password, &salt)?;
        let (algorithm, version) = (Algorithm::Argon2id.ident(), Version::V0x13.into());
        let (salt, hash) = (Some(salt), Some(hash));
        Some(PasswordHash { algorithm, version: Some(version), params: encoded, salt, hash }.to_string())
    }

    /// Whether it is the password of a PHC string of Argon2, whatever that cost.
    pub fn matches(&mut self, password: &str, stored: &str) -> bool {
        // Outputs are compared in constant time.
        PasswordHash::new(stored)
            .is_ok_and(|stored| stored.hash.is_some_and(|right| self.again(password, &stored) == Some(right)))
    }

    /// What the password gives with everything else as it is in a hash.
    fn again(&mut self, password: &str, stored: &PasswordHash) -> Option<Output> {
        let algorithm = Algorithm::try_from(stored.algorithm.as_str()).ok()?;
        let version = stored.version.map(Version::try_from).transpose().ok()?.unwrap_or_default();
        let params = Params::try_from(stored).ok()?;
        self.output(algorithm, version, params, password, stored.salt.as_ref()?)
    }

    fn output(
        &mut self,
        algorithm: Algorithm,
        version: Version,
        params: Params,
        password: &str,
        salt: &Salt,
    ) -> Option<Output> {
        let blocks = params.block_count();
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let memory = self.memory(blocks)?;
        let mut buffer = [0; Output::MAX_LENGTH];
        let out = buffer.get_mut(..length)?;
        let argon2 = Argon2::new(algorithm, version, params);
        let done = argon2.hash_password_into_with_memory(password.as_bytes(), salt, out, memory);
        // An imported hash may have wanted a gigabyte.
        if blocks > self.params.block_count() {
            self.rest();
        }
        done.ok().and_then(|()| Output::new(buffer.get(..length)?).ok())
    }

    /// So many blocks, with anything in them.
    fn memory(&mut self, blocks: usize) -> Option<&mut [Block]> {
        if self.memory.capacity() < blocks {
            self.rest();
            self.memory.try_reserve_exact(blocks.max(OWN_MAPPING_BYTES / Block::SIZE)).ok()?;
        }
        if self.memory.len() < blocks {
            self.memory.resize(blocks, Block::new());
        }
        self.memory.get_mut(..blocks)
    }

    /// Whether it holds memory.
    pub fn is_warm(&self) -> bool {
        self.memory.capacity() > 0
    }

    /// Gives the memory back.
    pub fn rest(&mut self) {
        self.memory = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher, PasswordVerifier};

    use super::*;

    fn params(memory_kib: u32, iterations: u32, lanes: u32) -> Params {
        Params::new(memory_kib, iterations, lanes, None).unwrap()
    }

    #[test]
    fn what_it_makes_the_library_takes_and_the_other_way_round() {
        let own = params(64, 2, 1);
        let mut hasher = Hasher::new(own.clone());
        let library = Argon2::new(Algorithm::Argon2id, Version::V0x13, own);
        for password in ["비밀", "", "🦀 and a space "] {
            let made = hasher.hash(password).unwrap();
            assert!(made.starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{made}");
            library.verify_password(password.as_bytes(), made.as_str()).unwrap();
            assert!(hasher.matches(password, &made) && !hasher.matches("another", &made));
            assert_ne!(made, hasher.hash(password).unwrap(), "each has a salt of its own");
        }
        // Hashes of others: of more memory and of less, of several lanes, of the other kinds and the older version.
        for (algorithm, version, params) in [
            (Algorithm::Argon2id, Version::V0x13, params(512, 1, 4)),
            (Algorithm::Argon2i, Version::V0x13, params(8, 3, 1)),
            (Algorithm::Argon2d, Version::V0x10, params(64, 1, 2)),
            (Algorithm::Argon2id, Version::V0x10, Params::new(128, 1, 1, Some(64)).unwrap()),
        ] {
            let stored = Argon2::new(algorithm, version, params).hash_password("비밀".as_bytes()).unwrap();
            assert!(hasher.matches("비밀", &stored.to_string()), "{stored}");
            assert!(!hasher.matches("비밀 ", &stored.to_string()), "{stored}");
        }
    }

    #[test]
    fn what_is_no_hash_is_nobodys_password() {
        let mut hasher = Hasher::new(params(8, 1, 1));
        let made = hasher.hash("x").unwrap();
        let (without_hash, _) = made.rsplit_once('$').unwrap();
        let (without_salt, _) = without_hash.rsplit_once('$').unwrap();
        let other = made.replace("argon2id", "scrypt");
        let unknown = made.replace("v=19", "v=20");
        for stored in ["", "?", "$argon2id$", without_hash, without_salt, &other, &unknown] {
            assert!(!hasher.matches("x", stored) && !hasher.matches("", stored), "{stored}");
        }
    }

    #[test]
    fn its_memory_is_kept_for_the_next_one_and_given_back() {
        let mut hasher = Hasher::new(params(64, 1, 1));
        assert!(!hasher.is_warm());
        let made = hasher.hash("x").unwrap();
        let place = hasher.memory.as_ptr();
        assert!(hasher.matches("x", &made) && hasher.memory.as_ptr() == place);
        assert!(hasher.memory.capacity() * Block::SIZE >= OWN_MAPPING_BYTES, "a mapping of its own");
        let large = Argon2::from(params(1_024, 1, 1)).hash_password(b"x").unwrap().to_string();
        assert!(hasher.matches("x", &large) && !hasher.is_warm(), "more than its own is not kept");
        hasher.hash("x").unwrap();
        hasher.rest();
        assert!(!hasher.is_warm());
    }
}
