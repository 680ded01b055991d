//! Puts the versions of the main libraries, as Cargo.lock pins them, into the crate, so that `bittern env` shows what
//! is really linked. Cargo gives a crate no other way to learn its dependencies' versions.

use std::{env, fs, path::Path};

const SHOWN: [&str; 5] = ["tokenizers", "minijinja", "llguidance", "onig", "parquet"];

fn main() {
    let lock = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("Cargo.lock");
    let text = fs::read_to_string(&lock).expect("Cargo.lock is committed");
    let mut versions = Vec::new();
    for package in text.split("[[package]]") {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key));
            line.map(|rest| rest.trim_matches(|c| " =\"".contains(c)).to_string())
        };
        if let (Some(name), Some(version)) = (value("name"), value("version")) {
            if SHOWN.contains(&name.as_str()) {
                versions.push(format!("{name} {version}"));
            }
        }
    }
    println!("cargo:rustc-env=BITTERN_BRIDGE_VERSIONS={}", versions.join(";"));
    println!("cargo:rerun-if-changed={}", lock.display());
}
