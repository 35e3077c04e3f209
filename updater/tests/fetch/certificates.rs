//! Certificates for the tests, made by openssl.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;

/// An authority and what it has signed: PEM texts.
pub struct Authority {
    folder: TempDir,
    pub certificate: String,
}

/// A certificate and its key.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// The authority that the tests trust.
pub static OURS: LazyLock<Authority> = LazyLock::new(|| Authority::new("ours"));
/// One that they don't.
pub static THEIRS: LazyLock<Authority> = LazyLock::new(|| Authority::new("theirs"));

const SETTINGS: &str = "[ca]\ndefault_ca = d\n[d]\ndatabase = index\nnew_certs_dir = .\nserial = serial\n\
    certificate = ca.pem\nprivate_key = ca.key\ndefault_md = sha256\npolicy = p\nunique_subject = no\n\
    copy_extensions = copy\n[p]\ncommonName = supplied\n";

impl Authority {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("settings"), SETTINGS).unwrap();
        fs::write(path.join("index"), "").unwrap();
        fs::write(path.join("serial"), "01\n").unwrap();
        let subject = format!("/CN={name}");
        openssl(
            path,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -keyout ca.key -out ca.pem -subj",
            &[&subject],
        );
        let certificate = fs::read_to_string(path.join("ca.pem")).unwrap();
        Self {
            folder,
            certificate,
        }
    }

    /// A certificate for `host` that is valid between two dates (`YYYYMMDD`).
    pub fn sign(&self, host: &str, from: &str, until: &str) -> Pair {
        let path = self.folder.path();
        let name = format!("{host}-{from}-{until}");
        let file = |end: &str| format!("{name}.{end}");
        let subject = format!("/CN={host}");
        let alternative = format!("subjectAltName=DNS:{host}");
        openssl(
            path,
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes",
            &[
                "-keyout",
                &file("key"),
                "-out",
                &file("csr"),
                "-subj",
                &subject,
                "-addext",
                &alternative,
            ],
        );
        let dates = [format!("{from}000000Z"), format!("{until}000000Z")];
        openssl(
            path,
            "ca -batch -notext -config settings",
            &[
                "-in",
                &file("csr"),
                "-out",
                &file("pem"),
                "-startdate",
                &dates[0],
                "-enddate",
                &dates[1],
            ],
        );
        Pair {
            certificate: fs::read_to_string(path.join(file("pem"))).unwrap(),
            key: fs::read_to_string(path.join(file("key"))).unwrap(),
        }
    }

    /// A certificate that is valid now.
    pub fn good(&self, host: &str) -> Pair {
        self.sign(host, "20200101", "20991231")
    }
}

fn openssl(folder: &Path, words: &str, more: &[&str]) {
    let output = Command::new("openssl")
        .args(words.split(' '))
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {words}: {text}");
}
