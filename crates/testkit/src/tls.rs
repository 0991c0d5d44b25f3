//! Throw-away certificates.

use std::path::{Path, PathBuf};

use crate::Error;

/// A certificate authority and one certificate for `localhost` and 127.0.0.1, as PEM files.
#[derive(Debug)]
pub struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// Makes new ones in a temporary folder, which goes when this value is dropped.
    pub fn generate() -> Result<Self, Error> {
        let temp = std::env::temp_dir();
        let folder = tempfile::tempdir().map_err(Error::io("create a folder in", temp))?;
        let authority_key = rcgen::KeyPair::generate()?;
        let mut authority = rcgen::CertificateParams::new(Vec::<String>::new())?;
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let authority_cert = authority.self_signed(&authority_key)?;
        let key = rcgen::KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let issuer = rcgen::Issuer::from_params(&authority, &authority_key);
        let mut server = rcgen::CertificateParams::new(names)?;
        // With the authority's name too it would look signed by itself.
        server
            .distinguished_name
            .push(rcgen::DnType::CommonName, "test server");
        let cert = server.signed_by(&key, &issuer)?;
        let made = Self { folder };
        for (path, text) in [
            (made.authority(), authority_cert.pem()),
            (made.certificate(), cert.pem()),
            (made.key(), key.serialize_pem()),
        ] {
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        Ok(made)
    }

    /// The certificate authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The certificate, good for server and client.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.path("cert.pem")
    }

    /// Its private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.path("key.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}
